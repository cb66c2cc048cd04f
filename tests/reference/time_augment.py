"""Processor time of nnU-Net's default augmentation in batchgeneratorsv2 and here, one thread each.

    python tests/reference/time_augment.py --against [ROUNDS]
    python tests/reference/time_augment.py [SAMPLES] [--single]

The first is the comparison: it compiles benches/augment.rs, runs it and this script in turns, and prints medians of
milliseconds per sample, their ratio, and peak memory, as a table in Markdown. The second prints the figures of
batchgeneratorsv2 alone: for the whole list of nnUNetTrainer.get_training_transforms, or, with --single, for each of
its operations, always applied. Images and labels are those of the benchmark.
"""

import json
import os
import statistics
import subprocess
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


def build():
    """Compiles the benchmark and returns its path."""
    command = ["cargo", "bench", "--workspace", "--bench", "augment", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    made = [m for m in messages if m.get("executable") and m["target"]["name"] == "augment"]
    return made[-1]["executable"]


def read(command):
    """The figures that a program prints, by name."""
    figures = {}
    for line in subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
        parts = line.rsplit(maxsplit=2)
        if len(parts) == 3 and parts[2] in ("ms", "MiB"):
            figures[parts[0].strip()] = (float(parts[1]), parts[2])
    return figures


def against(rounds):
    """Runs both in turns and compares the medians."""
    ours, theirs = build(), [sys.executable, os.path.abspath(__file__)]
    found = {}
    for last in [False] * rounds + [True]:
        # The operations alone once, at the end; they take as long as several rounds.
        commands = [[ours, "default"], theirs + ["20"]] if not last else [[ours], theirs + ["4", "--single"]]
        pair = [read(command) for command in commands]
        for name in pair[1]:
            if not (last and name == "peak memory"):
                found.setdefault(name, []).append([figures[name] for figures in pair])
    print("| | here | batchgeneratorsv2 | ratio |\n|---|---|---|---|")
    for name, runs in found.items():
        here, there = (statistics.median(run[which][0] for run in runs) for which in (0, 1))
        unit = runs[0][0][1]
        print(f"| {name} | {here:.2f} {unit} | {there:.2f} {unit} | {there / here:.2f} |")


def main():
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    if "--against" in sys.argv:
        return against(numbers[0] if numbers else 5)
    samples = numbers[0] if numbers else 60
    np.random.seed(1)
    torch.manual_seed(1)
    patch = (128, 128, 128)
    image, labels = make(patch, 4)
    print("(4, 128, 128, 128)")
    if "--single" in sys.argv:
        report("mirror", MirrorTransform((0, 1, 2)), image, labels, samples)
        report("rotate", spatial(patch, 1, 0), image, labels, samples)
        report("scale", spatial(patch, 0, 1), image, labels, samples)
        for name, _, op in operations(patch):
            report(name, op, image, labels, samples)
    else:
        report("default list", default_list(patch), image, labels, samples)
        small = (40, 56, 40)
        print("(1, 40, 56, 40)")
        report("small default list", default_list(small), *make(small, 1), 10 * samples)
    import resource

    print(f"{'peak memory':>32} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.1f} MiB")


if __name__ == "__main__":
    main()
