"""Times the classical methods against their usual implementations, in turns, one thread each.

    pip install numpy nibabel SimpleITK picsl-greedy
    cargo build --release -p segen-cli
    taskset -c 0 python tests/reference/time_classical.py --data DATASET --segen target/release/segen

DATASET is in nnU-Net v2 layout with one channel (Medical Segmentation Decathlon, Task04, for the figures of the
documentation). Each method is a function below that prints a line; they take their cases from `pairs`.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import nibabel
import numpy as np
import SimpleITK as sitk


def pairs(data, count):
    """A fixed case of nnU-Net's fold 0 with a moving one that is not of it, `count` times."""
    names = sorted(path.name.removesuffix(".nii.gz") for path in (data / "labelsTr").glob("*.nii.gz"))
    order = np.arange(len(names))
    # scikit-learn's KFold(5, shuffle=True, random_state=12345).
    np.random.RandomState(12345).shuffle(order)
    held_out = sorted(order[:-(-len(names) // 5)])
    training = [number for number in range(len(names)) if number not in set(held_out)]
    return [
        (names[fixed], names[training[place * 37 % len(training)]])
        for place, fixed in enumerate(held_out[:count])
    ]


def files(data, name):
    return data / "imagesTr" / f"{name}_0000.nii.gz", data / "labelsTr" / f"{name}.nii.gz"


def dice(ours, truth):
    classes = [c for c in np.unique(truth) if c > 0]
    both = [(2 * ((ours == c) & (truth == c)).sum(), (ours == c).sum() + (truth == c).sum()) for c in classes]
    return float(np.mean([hit / size for hit, size in both]))


def registration_by_segen(program, data, fixed, moving, how):
    """Dice of the pulled labels, and processor seconds of the whole program, reading and writing included."""
    (image_f, label_f), (image_m, label_m) = files(data, fixed), files(data, moving)
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "register", image_m, image_f, "-o", folder, "--labels", label_m, "--transform", how]
        process = subprocess.Popen(
            [*map(str, command), "--threads", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, command
        ours = np.asarray(nibabel.load(f"{folder}/labels.nii.gz").dataobj)
    truth = np.asarray(nibabel.load(label_f).dataobj)
    return dice(ours, truth), usage.ru_utime + usage.ru_stime


class Greedy:
    """picsl-greedy with the images in memory: its reading and writing are not counted."""

    def __init__(self, data, fixed, moving):
        from picsl_greedy import Greedy3D

        self.tool = Greedy3D()
        (image_f, label_f), (image_m, label_m) = files(data, fixed), files(data, moving)
        self.fixed = sitk.ReadImage(str(image_f), sitk.sitkFloat32)
        self.moving = sitk.ReadImage(str(image_m), sitk.sitkFloat32)
        self.labels = sitk.ReadImage(str(label_m))
        self.truth = sitk.GetArrayFromImage(sitk.ReadImage(str(label_f)))

    def run(self, command, **images):
        start = time.process_time()
        self.tool.execute(f"{command} -threads 1 -V 0", **images)
        return time.process_time() - start

    def dice(self, chain):
        shares = []
        for value in np.unique(sitk.GetArrayFromImage(self.labels)):
            share = sitk.Cast(self.labels == int(value), sitk.sitkFloat32)
            self.run(f"-rf fixed -rm in{value} out{value} -r {chain}", **{f"in{value}": share, f"out{value}": None})
            shares.append(sitk.GetArrayFromImage(self.tool[f"out{value}"]))
        return dice(np.argmax(shares, axis=0), self.truth)


def registration(args):
    ours = {"affine": [], "deformable": []}
    theirs = {"affine": [], "deformable": []}
    for fixed, moving in pairs(args.data, args.pairs):
        greedy = Greedy(args.data, fixed, moving)
        seconds = greedy.run(
            "-i fixed moving -a -m NCC 2x2x2 -n 40x20 -ia-image-centers -o affine",
            fixed=greedy.fixed, moving=greedy.moving, affine=None,
        )
        theirs["affine"].append((greedy.dice("affine"), seconds))
        seconds += greedy.run(
            "-i fixed moving -m NCC 2x2x2 -n 40x20 -s 1.5vox 0.7vox -it affine -o warp", warp=None
        )
        theirs["deformable"].append((greedy.dice("warp affine"), seconds))
        for how, results in ours.items():
            results.append(registration_by_segen(args.segen, args.data, fixed, moving, how))
        print(f"{fixed} <- {moving}", *(f"{v[-1][0]:.3f}" for v in (*ours.values(), *theirs.values())), flush=True)
    for how in ours:
        mean = lambda rows, column: statistics.mean(row[column] for row in rows[how])
        print(
            f"{how} registration, {args.pairs} pairs: Dice {mean(ours, 0):.3f}, picsl-greedy {mean(theirs, 0):.3f}; "
            f"{mean(ours, 1):.2f} s, picsl-greedy {mean(theirs, 1):.2f} s; ratio {mean(ours, 1) / mean(theirs, 1):.2f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--segen", type=pathlib.Path, required=True)
    parser.add_argument("--pairs", type=int, default=40)
    registration(parser.parse_args())


main()
