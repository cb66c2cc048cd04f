"""CPU time of `segen evaluate` and of MONAI for HD95 and surface Dice of two 240x240x155 cases with three regions.

Run alternately, one thread each, from the root of the repository after `cargo build --release`:
    python tests/reference/time_metrics.py target/release/segen
"near": predictions a voxel or two off. "far": the same with one false voxel of each class in two opposite corners.
segen also reads the files, counts overlap and finds lesions; MONAI's time includes reading, not importing.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
import nibabel  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from monai.metrics import compute_hausdorff_distance, compute_surface_dice  # noqa: E402
from scipy.ndimage import gaussian_filter  # noqa: E402

SHAPE = (240, 240, 155)
REGIONS = {"whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def noise(seed, sigma):
    return gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32), sigma) * sigma**1.5


def segmentation(case, seed):
    """Three nested bodies; the coarse shape depends on the case, fine ripples on the seed."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE], indexing="ij"))
    ripples = 0.25 * noise(case, 6) + 0.05 * noise(seed, 4) + 0.05 * noise(seed + 1, 1.5)
    labels = np.zeros(SHAPE, np.uint8)
    bodies = [((0.2, 0.1, 0.1), (0.45, 0.4, 0.5)), ((0.25, 0.1, 0.1), (0.3, 0.28, 0.3)), ((0.3, 0.1, 0.1), (0.15, 0.15, 0.2))]
    for value, (centre, radii) in enumerate(bodies, start=1):
        offset = (grid - np.array(centre)[:, None, None, None]) / np.array(radii)[:, None, None, None]
        labels[1 - np.sqrt((offset**2).sum(0)) + ripples > 0] = value
    return labels


def make(folder):
    for kind in ("near", "far"):
        for part in ("predictions", "labelsTr"):
            (folder / kind / part).mkdir(parents=True)
        labels = {"background": 0, **REGIONS}
        (folder / kind / "dataset.json").write_text(json.dumps({
            "channel_names": {"0": "T1"}, "labels": labels, "regions_class_order": [1, 2, 3],
            "numTraining": 2, "file_ending": ".nii.gz",
        }))  # fmt: skip
    for case in range(2):
        reference, prediction = segmentation(case, 10 + 4 * case), segmentation(case, 12 + 4 * case)
        for kind in ("near", "far"):
            if kind == "far":
                for value, x in ((1, 0), (2, 5), (3, 10)):
                    prediction[x, 0, 0] = prediction[-1 - x, -1, -1] = value
            for part, array in (("labelsTr", reference), ("predictions", prediction)):
                nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / kind / part / f"case{case}.nii.gz")


def segen(program, folder):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [program, "evaluate", folder / "predictions", folder / "labelsTr", "--threads", "1", "--json"]
    summary = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    scores = [[m["HD95"], m["NSD@1mm"]] for case in summary["metric_per_case"] for m in case["metrics"].values()]
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, scores


def peer(folder):
    start = time.process_time()
    scores = []
    for file in sorted((folder / "predictions").iterdir()):
        pair = [np.asarray(nibabel.load(f).dataobj) for f in (file, folder / "labelsTr" / file.name)]
        for values in REGIONS.values():
            masks = [torch.from_numpy(np.isin(array, values)[None, None].astype(np.float32)) for array in pair]
            options = {"include_background": True, "spacing": [1.0, 1.0, 1.0]}
            scores.append([
                compute_hausdorff_distance(*masks, percentile=95, **options).item(),
                compute_surface_dice(*masks, class_thresholds=[1.0], **options).item(),
            ])  # fmt: skip
    return time.process_time() - start, scores


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        make(Path(temporary))
        for kind in ("near", "far"):
            times = {"segen": [], "MONAI": []}
            for _ in range(3):
                for name, (seconds, scores) in (("segen", segen(sys.argv[1], Path(temporary, kind))), ("MONAI", peer(Path(temporary, kind)))):
                    times[name].append(seconds)
                    if name == "segen":
                        ours = np.array(scores)
            difference = np.abs(ours - np.array(scores)).max()
            best = {name: min(seconds) for name, seconds in times.items()}
            print(f"{kind}: segen {best['segen'] / 2:.2f} s of CPU a case, MONAI {best['MONAI'] / 2:.2f} s, ratio "
                  f"{best['MONAI'] / best['segen']:.1f}, largest difference {difference:.1e}")  # fmt: skip
