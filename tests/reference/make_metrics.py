"""Makes tests/data/metrics: small segmentations with nnU-Net's summaries of them, and MONAI's surface scores.

Needs nnunetv2 2.8.1, monai 1.6, nibabel, numpy, scipy, torch. Run from the root of the repository:
    SEGEN_DATA=FOLDER python tests/reference/make_metrics.py
"""

import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import monai
import nibabel
import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from monai.metrics.utils import get_mask_edges
from scipy.ndimage import binary_fill_holes, gaussian_filter, generate_binary_structure, label, shift
from scipy.spatial import KDTree

OUT = Path("tests/data/metrics")
SPACING = (0.9, 1.1, 2.5)
SHAPE = (30, 26, 16)


def field(rng, shape, sigma):
    return gaussian_filter(rng.standard_normal(shape), sigma) * sigma**1.5


def blob(rng, centre, radii):
    """A smooth irregular body; returns how far inside each voxel is."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
    distance = np.sqrt((((grid - centre) / radii) ** 2).sum(-1))
    return 1 - distance + 0.5 * field(rng, SHAPE, 2.0)


def bodies(rng, classes):
    """Nested or neighbouring bodies painted in order, as inside-ness per class."""
    centre = np.array(SHAPE) / 2 + rng.uniform(-3, 3, 3)
    return [blob(rng, centre + rng.uniform(-4, 4, 3), np.array([9.0, 8.0, 5.0]) / (1 + 0.35 * k)) for k in range(classes)]


def paint(inside, thresholds):
    labels = np.zeros(SHAPE, np.uint8)
    for value, (body, threshold) in enumerate(zip(inside, thresholds), start=1):
        labels[body > threshold] = value
    return labels


def pair(rng, classes):
    """A reference and a prediction that is wrong the way networks are: at edges, with specks and holes."""
    inside = bodies(rng, classes)
    reference = paint(inside, [0.0] * classes)
    wrong = [shift(b, rng.uniform(-0.8, 0.8, 3), order=1, mode="nearest") + 0.12 * field(rng, SHAPE, 1.0) for b in inside]
    return reference, paint(wrong, list(rng.uniform(-0.1, 0.15, classes)))


def save(array, file):
    affine = np.diag([-SPACING[0], SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = (12.5, -30.0, 4.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), file)


def nnunet(name, cases, labels, keys, order=None, ignore=None):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder, compute_metrics_on_folder_simple
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    folder = OUT / name
    for case, (reference, prediction) in cases.items():
        save(reference, folder / "labelsTr" / f"{case}.nii.gz")
        save(prediction, folder / "predictions" / f"{case}.nii.gz")
    description = {"channel_names": {"0": "T1"}, "labels": labels, "numTraining": len(cases), "file_ending": ".nii.gz"}
    if order:
        description["regions_class_order"] = order
    (folder / "dataset.json").write_text(json.dumps(description, indent=1) + "\n")
    here = os.getcwd()
    os.chdir(folder)  # so that the summary holds relative paths
    if order is None and ignore is None:
        compute_metrics_on_folder_simple("labelsTr", "predictions", keys, "nnunet.json", 1)
    else:
        compute_metrics_on_folder("labelsTr", "predictions", "nnunet.json", SimpleITKIO(), ".nii.gz", keys, ignore, 1)
    os.chdir(here)


def summaries():
    rng = np.random.default_rng(20)
    cases = {f"case_{i:02}": pair(rng, 2) for i in range(5)}
    reference, prediction = pair(rng, 2)  # class 2 in neither
    cases["case_05_absent"] = (np.where(reference == 2, 1, reference), np.where(prediction == 2, 1, prediction))
    reference, prediction = pair(rng, 2)  # class 2 invented
    cases["case_06_invented"] = (np.where(reference == 2, 1, reference), prediction)
    reference, prediction = pair(rng, 2)  # class 1 missed
    cases["case_07_missed"] = (reference, np.where(prediction == 1, 0, prediction))
    nnunet("labels", cases, {"background": 0, "anterior": 1, "posterior": 2}, [1, 2])

    cases = {f"case_{i:02}": pair(rng, 3) for i in range(4)}
    reference, prediction = pair(rng, 3)
    cases["case_04_absent"] = (np.where(reference == 3, 2, reference), np.where(prediction == 3, 2, prediction))
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    nnunet("regions", cases, labels, [(1, 2, 3), (2, 3), 3], order=[1, 2, 3])

    cases = {}
    for i in range(4):
        reference, prediction = pair(rng, 2)
        reference[field(rng, SHAPE, 2.0) > 0.45] = 3
        cases[f"case_{i:02}"] = (reference, prediction)
    nnunet("ignore", cases, {"background": 0, "organ": 1, "lesion": 2, "ignore": 3}, [1, 2], ignore=3)


def masks(rng, kind, shape):
    """Two random masks of one kind."""
    if kind == "noise":
        share = rng.uniform(0.02, 0.5)
        return rng.random(shape) < share, rng.random(shape) < share
    base = field(rng, shape, 2.0)
    if kind == "smooth":  # many bodies, some cut by the border of the array
        return base + 0.3 * field(rng, shape, 1.0) > 0.3, base > 0.35
    if kind == "far":  # two specks in opposite corners
        first, second = np.zeros(shape, bool), np.zeros(shape, bool)
        first[:2, :1, :2] = True
        second[-1:, -2:, -1:] = True
        return first, second
    if kind == "outlier":  # good overlap and one speck far away
        body = np.zeros(shape, bool)
        body[3:9, 2:8, 4:8] = True
        other = np.roll(body, 1, 0)
        other[-2, -2, -2] = True
        return body, other
    if kind == "full":  # everything against a hollow body
        hollow = np.ones(shape, bool)
        hollow[4:-4, 4:-4, 4:-4] = False
        return np.ones(shape, bool), hollow
    raise ValueError(kind)


def double(prediction, reference, spacing):
    """HD95 of MONAI's boundaries in double precision; MONAI itself rounds distances and ranks to single."""
    points = [np.argwhere(edges) * spacing for edges in get_mask_edges(prediction, reference)]
    directed = [KDTree(points[to]).query(points[since])[0] for since, to in ((0, 1), (1, 0))]
    return max(float(np.percentile(distances, 95)) for distances in directed)


def surfaces():
    """MONAI without subvoxels: boundary = mask minus its erosion by the 6-neighbourhood, outside is background."""
    rng = np.random.default_rng(21)
    cases = []
    for kind in ["noise"] * 8 + ["smooth"] * 10 + ["far", "outlier", "full"]:
        shape = tuple(int(n) for n in rng.integers(12, 25, 3))
        spacing = [round(float(s), 3) for s in rng.uniform(0.4, 4.0, 3)]
        prediction, reference = masks(rng, kind, shape)
        scored = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, reference)]
        hd95 = compute_hausdorff_distance(*scored, include_background=True, percentile=95, spacing=spacing)
        tolerances = [0.5, 1.0, round(spacing[0], 3), round(2 * spacing[2], 3)]
        nsd = [
            compute_surface_dice(*scored, class_thresholds=[t], include_background=True, spacing=spacing).item()
            for t in tolerances
        ]
        pack = lambda mask: np.packbits(mask.flatten(order="F")).tobytes().hex()  # noqa: E731, x fastest
        cases.append({
            "kind": kind, "shape": shape, "spacing": spacing, "hd95": hd95.item(),
            "hd95_double": double(prediction, reference, spacing),
            "nsd": {str(t): v for t, v in zip(tolerances, nsd)},
            "prediction": pack(prediction), "reference": pack(reference),
        })  # fmt: skip
    text = ",\n".join(json.dumps(case) for case in cases)
    (OUT / "monai.json").write_text(f'{{"monai": "{monai.__version__}", "cases": [\n{text}\n]}}\n')


def components():
    """SciPy's number of components for 6, 18 and 26 neighbours of the same masks."""
    file = OUT / "monai.json"
    content = json.loads(file.read_text())
    counts = []
    for case in content["cases"]:
        n = int(np.prod(case["shape"]))
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(case["reference"]), np.uint8))[:n]
        mask = bits.reshape(case["shape"], order="F")
        counts.append({
            "components": [label(mask, generate_binary_structure(3, k))[1] for k in (1, 2, 3)],
            "filled": int(binary_fill_holes(mask).sum()),
        })  # fmt: skip
    (OUT / "scipy.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in counts) + "\n]\n")


def hippocampus():
    """nnU-Net's scores of 40 real references against themselves made wrong by a rule that the test repeats.

    Needs $SEGEN_DATA/Dataset004_Hippocampus; only numbers are kept.
    """
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder_simple

    source = Path(os.environ["SEGEN_DATA"]) / "Dataset004_Hippocampus" / "labelsTr"
    with tempfile.TemporaryDirectory() as folder:
        references, predictions = Path(folder, "references"), Path(folder, "predictions")
        references.mkdir()
        predictions.mkdir()
        for number, file in enumerate(sorted(source.glob("*.nii.gz"))[:40]):
            image = nibabel.load(file)
            labels = np.asarray(image.dataobj).astype(np.uint8)
            wrong = np.zeros_like(labels)
            wrong[1:] = labels[:-1]  # one voxel to the right
            if number % 10 == 9:
                wrong[wrong == 2] = 0  # a class is missed
            shutil.copy(file, references / file.name)
            nibabel.save(nibabel.Nifti1Image(wrong, image.affine), predictions / file.name)
        compute_metrics_on_folder_simple(str(references), str(predictions), [1, 2], f"{folder}/summary.json", 2)
        summary = json.loads(Path(folder, "summary.json").read_text())
    for case in summary["metric_per_case"]:
        for key in ("prediction_file", "reference_file"):
            case[key] = Path(case[key]).name
    (OUT / "hippocampus.json").write_text(json.dumps(summary) + "\n")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    summaries()
    surfaces()
    components()
    hippocampus()
