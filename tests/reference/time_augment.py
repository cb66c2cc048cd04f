"""Processor time of nnU-Net's default augmentation in batchgeneratorsv2, one thread, as in benches/augment.rs.

    python tests/reference/time_augment.py [samples] [--all]
    python tests/reference/time_augment.py --against BENCHMARK

The first prints milliseconds per sample for the whole list of nnUNetTrainer.get_training_transforms and, with
--all, for each operation alone, on the same images and labels, and the peak memory of the process. The second
runs the compiled benchmark (a program under target/, from `cargo bench --bench augment --no-run`) and this script in
turns, five times each, and prints medians and their ratio.
"""

import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

torch.set_num_threads(1)


def make(shape, channels):
    x, y, z = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    image = np.stack([np.sin((x * 7 + c) * 0.1) + np.cos(y * 0.2) * np.sin(z * 0.05) for c in range(channels)])
    distance = np.sqrt(sum(((p - n / 2) / n) ** 2 for p, n in zip((x, y, z), shape)))
    labels = sum((distance < radius).astype(np.int16) for radius in (0.3, 0.2, 0.1))
    return torch.from_numpy(image.astype(np.float32)), torch.from_numpy(labels[None].astype(np.int16))


def spatial(patch, rotation=0.2, scaling=0.2):
    angle = 30 / 360 * 2 * np.pi
    return SpatialTransform(
        patch, patch_center_dist_from_border=0, random_crop=False, p_elastic_deform=0, p_rotation=rotation,
        rotation=(-angle, angle), p_scaling=scaling, scaling=(0.7, 1.4), p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False, border_mode_seg="constant", padding_value_seg=-1,
    )


def operations(patch):
    mild, exponent = BGContrast((0.75, 1.25)), BGContrast((0.7, 1.5))
    return [
        ("noise", 0.1, GaussianNoiseTransform((0, 0.1), 1, True)),
        ("blur", 0.2, GaussianBlurTransform((0.5, 1.0), False, False, 0.5, benchmark=True)),
        ("brightness", 0.15, MultiplicativeBrightnessTransform(mild, False, 1)),
        ("contrast", 0.15, ContrastTransform(mild, True, False, 1)),
        ("low resolution", 0.25, SimulateLowResolutionTransform((0.5, 1), False, True, None, None, 0.5)),
        ("inverted gamma", 0.1, GammaTransform(exponent, 1, False, 1, 1)),
        ("gamma", 0.3, GammaTransform(exponent, 0, False, 1, 1)),
    ]


def report(name, transform, image, labels, samples):
    total = 0.0
    for sample in range(samples + 2):
        data = {"image": image.clone(), "segmentation": labels.clone()}
        began = time.process_time()
        with torch.no_grad():
            transform(**data)
        # The first calls make caches and choose convolution algorithms.
        total += 0.0 if sample < 2 else time.process_time() - began
    print(f"{name:>32} {1e3 * total / samples:8.3f} ms", flush=True)


def default_list(patch):
    steps = [spatial(patch)]
    steps += [RandomTransform(op, apply_probability=p) for _, p, op in operations(patch)]
    return ComposeTransforms(steps + [MirrorTransform((0, 1, 2)), RemoveLabelTansform(-1, 0)])


def against(benchmark):
    """Runs both in turns and compares the medians."""
    import statistics
    import subprocess

    programs = {"ours": [benchmark, "default"], "batchgeneratorsv2": [sys.executable, __file__, "30"]}
    figures = {name: {} for name in programs}
    for _ in range(5):
        for name, command in programs.items():
            for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
                parts = line.rsplit(maxsplit=2)
                if len(parts) == 3 and parts[2] in ("ms", "MiB"):
                    figures[name].setdefault(parts[0].strip(), []).append(float(parts[1]))
    for what in figures["batchgeneratorsv2"]:
        ours, theirs = (statistics.median(figures[name][what]) for name in programs)
        print(f"{what:>32} {ours:9.2f} {theirs:9.2f}   ratio {theirs / ours:.2f}")


if __name__ == "__main__" and "--against" in sys.argv:
    against(sys.argv[sys.argv.index("--against") + 1])
elif __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    samples = numbers[0] if numbers else 60
    np.random.seed(1)
    torch.manual_seed(1)
    patch = (128, 128, 128)
    image, labels = make(patch, 4)
    print("(4, 128, 128, 128)")
    report("default list", default_list(patch), image, labels, samples)
    if "--all" in sys.argv:
        report("mirror", MirrorTransform((0, 1, 2)), image, labels, 8)
        report("rotate", spatial(patch, 1, 0), image, labels, 8)
        report("scale", spatial(patch, 0, 1), image, labels, 8)
        for name, _, op in operations(patch):
            report(name, op, image, labels, 8)
    patch = (40, 56, 40)
    image, labels = make(patch, 1)
    print("(1, 40, 56, 40)")
    report("small default list", default_list(patch), image, labels, 10 * samples)
    import resource

    print(f"{'peak memory':>32} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.1f} MiB")
