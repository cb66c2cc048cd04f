"""Times `segen predict` against nnU-Net's own inference with the same network on the same scans, on the processor.

    segen train DATASET -o run --steps 1        # any run of a U-Net; how well it is trained does not matter
    segen export run -o model
    python tests/reference/time_predict.py --segen SEGEN --model model --scans FOLDER [--threads 1] [--rounds 3] [--cpus 0]

Needs nnunetv2 (tried: 2.8.1 with PyTorch 2.15). The model's plan is written in nnU-Net's terms and its weights are given to nnU-Net's
own network, so that both compute the same function: windows of the same size that overlap by half, weighted alike, in f32, without
mirroring. Both read the files, prepare, predict, resample and write label maps, one scan after the other, each in a process of its own,
in turns. Voxels that differ between the two are counted, and medians over the rounds are printed:

    whole     the process from start to end, wall time and processor time; Python's imports are in it
    scans     nnU-Net's time from the first scan to the last, without start and imports
    loop      nnU-Net's sliding windows alone
    memory    largest resident memory of the process

On a machine with other work processor times are the ones to compare; with one thread they are what a quiet machine would take.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def turned(values):
    """x, y, z of segen as nnU-Net's z, y, x."""
    return list(reversed(values))


def plans_of(plan, description):
    """The plan in nnU-Net's terms."""
    unet, normalisation = plan["unet"], plan["normalisation"]
    stages = len(unet["features"])
    if any(scheme["kind"] != "z-score" for scheme in normalisation):
        sys.exit("channels that are normalised otherwise than by z-score are not compared")
    data = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    labels = {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None}
    probabilities = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    resampling = "resample_data_or_seg_to_shape"
    configuration = {
        "data_identifier": "compared",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": plan["batch"],
        "patch_size": turned(plan["patch"]),
        "median_image_size_in_voxels": turned(plan["fingerprint"]["shapes"][0]),
        "spacing": turned(plan["spacing"]),
        "normalization_schemes": ["ZScoreNormalization" for _ in normalisation],
        "use_mask_for_norm": [scheme["masked"] for scheme in normalisation],
        "resampling_fn_data": resampling,
        "resampling_fn_data_kwargs": data,
        "resampling_fn_seg": resampling,
        "resampling_fn_seg_kwargs": labels,
        "resampling_fn_probabilities": resampling,
        "resampling_fn_probabilities_kwargs": probabilities,
        "batch_dice": plan["dice"] == "batch",
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": unet["features"],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [turned(kernel) for kernel in unet["kernels"]],
                "strides": [turned(stride) for stride in unet["strides"]],
                "n_conv_per_stage": [unet["convolutions"]] * stages,
                "n_conv_per_stage_decoder": [unet["convolutions"]] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    plans = {
        "dataset_name": plan["dataset"],
        "plans_name": "compared",
        "original_median_spacing_after_transp": turned(plan["spacing"]),
        "original_median_shape_after_transp": turned(plan["fingerprint"]["shapes"][0]),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "segen",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): {} for channel in range(len(normalisation))
        },
    }
    return plans, {key: description[key] for key in ("channel_names", "labels", "file_ending")}


def weights_of(file, stages):
    """segen's weights under nnU-Net's names, kernels turned to z, y, x."""
    from safetensors.torch import load_file

    found = {}
    for name, value in load_file(file).items():
        part, *places, kind = name.split(".")
        value = value.permute(0, 1, 4, 3, 2).contiguous() if value.dim() == 5 else value
        if part == "head":
            found[f"decoder.seg_layers.{stages - 2}.{kind}"] = value
            continue
        stage = int(places[0])
        if part == "encoder":
            place = f"encoder.stages.{stage}.0.convs.{places[1]}"
        elif places[1] == "up":
            found[f"decoder.transpconvs.{stages - 2 - stage}.{kind}"] = value
            continue
        else:
            place = f"decoder.stages.{stages - 2 - stage}.convs.{places[1]}"
        found[f"{place}.{places[2]}.{kind}"] = value
    return found


def predict_with_nnunet(model, scans, output, threads):
    """In a process of its own: predicts all scans; seconds of the whole and of the windows."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, output)
    import torch

    torch.set_num_threads(threads)
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    model = Path(model)
    plan = json.loads((model / "plan.json").read_text())
    plans, description = plans_of(plan, json.loads((model / "dataset.json").read_text()))
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        plan["channels"],
        plan["classes"],
        deep_supervision=False,
    )
    # Modules that stand under two names, and heads that are not used, keep what they have.
    weights = weights_of(model / "weights.safetensors", len(plan["unet"]["features"]))
    state = network.state_dict()
    unknown = [name for name in weights if name not in state]
    if unknown:
        sys.exit(f"nnU-Net's network has no {unknown}")
    network.load_state_dict(weights, strict=False)
    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        network, manager, configuration, [network.state_dict()], description, "compared", None
    )
    loop = [0.0]
    plain = predictor.predict_sliding_window_return_logits

    def timed(data):
        start = time.perf_counter()
        logits = plain(data)
        loop[0] += time.perf_counter() - start
        return logits

    predictor.predict_sliding_window_return_logits = timed
    start, spent = time.perf_counter(), time.process_time()
    predictor.predict_from_files_sequential(scans, output, save_probabilities=False)
    seconds = {"scans": time.perf_counter() - start, "scans_cpu": time.process_time() - spent, "loop": loop[0]}
    (Path(output) / "seconds").write_text(json.dumps(seconds))


def run(command, threads, cpus):
    """Wall and processor seconds and the largest memory of a process, MiB."""
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        environment[name] = str(threads)
    bind = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment, preexec_fn=bind)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            said.seek(0)
            sys.exit(said.read().decode(errors="replace"))
    wall = time.perf_counter() - start
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss / 1024}


def differing(one, other):
    """Share of voxels in which two folders of label maps differ."""
    import nibabel
    import numpy as np

    files = sorted(path for path in Path(one).iterdir() if path.name.endswith((".nii", ".nii.gz")))
    pairs = [[np.asarray(nibabel.load(folder / file.name).dataobj) for folder in map(Path, (one, other))] for file in files]
    foreground = sum(int(np.count_nonzero(first)) for first, _ in pairs)
    wrong = sum(int(np.count_nonzero(first != second)) for first, second in pairs)
    return len(files), wrong, sum(first.size for first, _ in pairs), foreground


def compare(arguments, folder):
    cpus = {int(cpu) for cpu in arguments.cpus.split(",")} if arguments.cpus else None
    outputs = {name: folder / name for name in ("segen", "nnunet")}
    here = [sys.executable, __file__, "--child"]
    for threads in arguments.threads:
        rows = {"segen": [], "nnunet": []}
        for _ in range(arguments.rounds):
            for name, output in outputs.items():
                shutil.rmtree(output, ignore_errors=True)
                output.mkdir()
                own = [arguments.segen, "predict", arguments.model, arguments.scans, "-o", str(output), "--threads", str(threads)]
                other = [*here, arguments.model, arguments.scans, str(output), str(threads)]
                row = run([*own, "--post", "off"] if name == "segen" else other, threads, cpus)
                if name == "nnunet":
                    row |= json.loads((output / "seconds").read_text())
                rows[name].append(row)
        median = {
            name: {key: statistics.median(row[key] for row in each) for key in each[0]} for name, each in rows.items()
        }
        ours, theirs = median["segen"], median["nnunet"]
        count, wrong, voxels, foreground = differing(*outputs.values())
        print(f"{count} scans, {threads} thread(s), medians of {arguments.rounds} rounds in turns")
        print(f"  segen    whole {ours['wall']:8.2f} s  processor {ours['cpu']:8.2f} s  memory {ours['memory']:6.0f} MiB")
        print(
            f"  nnU-Net  whole {theirs['wall']:8.2f} s  processor {theirs['cpu']:8.2f} s  memory {theirs['memory']:6.0f} MiB"
            f"  scans {theirs['scans']:.2f} s (processor {theirs['scans_cpu']:.2f} s)  loop {theirs['loop']:.2f} s"
        )
        print(
            f"  segen's whole over nnU-Net's: whole {ours['wall'] / theirs['wall']:.2f}, scans {ours['wall'] / theirs['scans']:.2f}, "
            f"loop {ours['wall'] / theirs['loop']:.2f}; processor: whole {ours['cpu'] / theirs['cpu']:.2f}, "
            f"scans {ours['cpu'] / theirs['scans_cpu']:.2f}; memory {ours['memory'] / theirs['memory']:.2f}"
        )
        print(f"  label maps differ in {wrong} of {voxels} voxels; {foreground} are foreground", flush=True)


def main():
    if sys.argv[1:2] == ["--child"]:
        model, scans, output, threads = sys.argv[2:]
        return predict_with_nnunet(model, scans, output, int(threads))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segen", required=True, help="the program")
    parser.add_argument("--model", required=True, help="a model that `segen export` wrote, of a U-Net")
    parser.add_argument("--scans", required=True, help="folder of scans, CASE_0000.nii.gz")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", help="processors to run on, such as 0 or 0,1")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments, Path(folder))


if __name__ == "__main__":
    main()
