"""Reference values for tests/it/plan.rs: what nnU-Net's planner decides for a number of fingerprints.

Needs nnunetv2 2.8.1. Run from the root of the repository, with the folder that holds Dataset004_Hippocampus:
`python tests/reference/make_plan.py FOLDER`. Writes tests/data/plan_nnunet.json.
Triples are in nnU-Net's order (z, y, x); those of a decision are also transposed by `transpose_forward`.
"""

import json
import os
import pathlib
import sys
import tempfile

TEMPORARY = pathlib.Path(tempfile.mkdtemp())
os.environ["nnUNet_raw"] = str(TEMPORARY / "raw")
os.environ["nnUNet_preprocessed"] = str(TEMPORARY / "preprocessed")
os.environ["nnUNet_results"] = str(TEMPORARY / "results")

import numpy as np  # noqa: E402
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (  # noqa: E402
    DatasetFingerprintExtractor)
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (  # noqa: E402
    ExperimentPlanner)

DATA = pathlib.Path(__file__).parent.parent / "data"


def synthetic(name, channels, labels, spacing, shape, spread, cases, relative=1.0, memory=8.0, seed=0):
    """Cases around a typical spacing and shape, with the given relative spread of both."""
    rng = np.random.default_rng(seed)
    return {
        "name": name, "channels": channels, "labels": labels, "memory": memory,
        "spacings": [[round(float(s * (1 + spread * rng.uniform(-1, 1))), 4) for s in spacing]
                     for _ in range(cases)],
        "shapes": [[max(1, int(s * (1 + spread * rng.uniform(-1, 1)))) for s in shape] for _ in range(cases)],
        "relative_size_after_cropping": relative,
    }


SETS = [
    synthetic("brain", ["T1", "T1ce", "T2", "FLAIR"], 4, [1, 1, 1], [140, 171, 137], 0.05, 9, relative=0.55),
    synthetic("brain_exact_spacing", ["T1", "FLAIR"], 2, [1, 1, 1], [155, 240, 240], 0.0, 40, relative=0.74),
    synthetic("kidney_ct", ["CT"], 4, [3.0, 0.78, 0.78], [107, 512, 512], 0.3, 21),
    synthetic("liver_ct", ["ct"], 3, [1.0, 0.77, 0.77], [432, 512, 512], 0.1, 11),
    synthetic("cardiac_anisotropic", ["MRI"], 4, [10.0, 1.5, 1.5], [9, 256, 216], 0.2, 20),
    synthetic("prostate", ["T2", "ADC"], 3, [3.6, 0.62, 0.62], [20, 320, 319], 0.05, 32),
    synthetic("spinal", ["MRI"], 2, [0.8, 0.8, 4.0], [300, 300, 18], 0.05, 15),
    synthetic("thick_but_many", ["MRI"], 2, [4.0, 1.0, 1.0], [150, 200, 220], 0.1, 15),
    synthetic("tiny", ["MRI"], 3, [1, 1, 1], [9, 11, 7], 0.1, 10),
    synthetic("tiny_one_case", ["MRI"], 2, [1, 1, 1], [16, 16, 16], 0.0, 1),
    synthetic("flat", ["zscore", "noNorm"], 2, [5, 1, 1], [3, 128, 128], 0.0, 12),
    synthetic("microscope", ["rescale_to_0_1", "rgb_to_0_1"], 2, [0.005, 0.004, 0.004], [100, 1024, 1024], 0.0, 4),
    synthetic("odd", ["MRI"], 2, [1.3, 0.9, 0.7], [61, 93, 201], 0.15, 6, relative=0.75),
    synthetic("even_cases", ["MRI"], 5, [1.0, 1.0, 1.0], [65, 66, 67], 0.2, 8, relative=0.7499),
    synthetic("less_memory", ["CT"], 3, [1.5, 0.8, 0.8], [200, 400, 400], 0.1, 25, memory=4.0),
    synthetic("more_memory", ["CT"], 3, [1.5, 0.8, 0.8], [200, 400, 400], 0.1, 25, memory=24.0),
    synthetic("many_classes", ["CT"], 118, [1.5, 1.5, 1.5], [280, 240, 240], 0.2, 13),
    synthetic("small_batch_rule", ["MRI"], 3, [1, 1, 1], [36, 50, 35], 0.05, 12),
]


def decide(number, entry, fingerprint):
    name = f"Dataset{number:03d}_{entry['name']}"
    raw, preprocessed = TEMPORARY / "raw" / name, TEMPORARY / "preprocessed" / name
    raw.mkdir(parents=True, exist_ok=True)
    preprocessed.mkdir(parents=True, exist_ok=True)
    if not (raw / "dataset.json").exists():
        labels = {"background": 0} | {f"class{i}": i for i in range(1, entry["labels"])}
        (raw / "dataset.json").write_text(json.dumps({
            "channel_names": {str(i): c for i, c in enumerate(entry["channels"])}, "labels": labels,
            "numTraining": len(entry["shapes"]), "file_ending": ".nii.gz", "dataset": {},
        }))
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))

    class Planner(ExperimentPlanner):
        def determine_reader_writer(self):
            return Planner

    planner = Planner(name, gpu_memory_target_in_gb=entry["memory"])
    plans = planner.plan_experiment()
    full = plans["configurations"]["3d_fullres"]
    network = full["architecture"]["arch_kwargs"]
    ints = lambda value: [ints(v) if isinstance(v, (list, tuple)) else int(v) for v in value]  # noqa: E731
    return {
        "transpose_forward": ints(plans["transpose_forward"]),
        "spacing": [float(s) for s in full["spacing"]],
        "patch": ints(full["patch_size"]),
        "batch": int(full["batch_size"]),
        "strides": ints(network["strides"]),
        "kernels": ints(network["kernel_sizes"]),
        "features": ints(network["features_per_stage"]),
        "convolutions": ints(network["n_conv_per_stage"]),
        "normalisation": full["normalization_schemes"],
        "masked": full["use_mask_for_norm"],
        "batch_dice": bool(full["batch_dice"]),
    }


def main():
    result = []
    for number, entry in enumerate(SETS, start=100):
        intensities = {str(i): {k: 1.0 for k in (
            "mean", "median", "std", "min", "max", "percentile_00_5", "percentile_99_5")}
            for i in range(len(entry["channels"]))}
        decision = decide(number, entry, {
            "spacings": entry["spacings"], "shapes_after_crop": entry["shapes"],
            "foreground_intensity_properties_per_channel": intensities,
            "median_relative_size_after_cropping": entry["relative_size_after_cropping"],
        })
        result.append(entry | {"decision": decision})

    source = pathlib.Path(sys.argv[1]) / "Dataset004_Hippocampus"
    (TEMPORARY / "raw" / source.name).symlink_to(source)
    fingerprint = DatasetFingerprintExtractor(source.name, 2).run()
    entry = {
        "name": "Hippocampus", "channels": ["MRI"], "labels": 3, "memory": 8.0,
        "spacings": [[float(s) for s in spacing] for spacing in fingerprint["spacings"]],
        "shapes": [[int(n) for n in shape] for shape in fingerprint["shapes_after_crop"]],
        "relative_size_after_cropping": float(fingerprint["median_relative_size_after_cropping"]),
    }
    (TEMPORARY / "preprocessed" / source.name).mkdir(parents=True, exist_ok=True)
    saved = json.loads((TEMPORARY / "preprocessed" / source.name / "dataset_fingerprint.json").read_text())
    entry["decision"] = decide(4, entry, saved)
    entry["intensities"] = saved["foreground_intensity_properties_per_channel"]
    result.append(entry)
    lines = ",\n".join(json.dumps(entry) for entry in result)
    (DATA / "plan_nnunet.json").write_text(f"[\n{lines}\n]\n")
    for entry in result:
        print(entry["name"], entry["decision"], file=sys.stderr)


if __name__ == "__main__":
    main()
