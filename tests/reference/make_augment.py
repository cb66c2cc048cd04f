"""Reference values for tests/it/augment.rs, from batchgeneratorsv2 0.3.6 (torch on CPU) with fixed parameters.

    python tests/reference/make_augment.py

Writes tests/data/augment.json (what each array is) and tests/data/augment.bin (the arrays, little endian, one
after the other: float32 images, uint8 labels; axis order as in the program).
"""

import json
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

OUT = Path(__file__).parent.parent / "data"
rng = np.random.default_rng(20)
SHAPE = (16, 13, 19)

arrays, index = [], []


def add(name, array, **parameters):
    array = np.ascontiguousarray(array)
    assert array.dtype in (np.float32, np.uint8)
    offset = sum(a.nbytes for a in arrays)
    arrays.append(array)
    index.append({"name": name, "dtype": str(array.dtype), "shape": list(array.shape), "offset": offset, **parameters})


image = np.stack([gaussian_filter(rng.normal(size=SHAPE), s) * 4 * s for s in (1.0, 0.6)]).astype(np.float32)
# Classes 0 to 3 and the ignore value, in blobs with corners where several meet.
seeds = rng.uniform(0, 1, size=(14, 3)) * np.array(SHAPE)
grid = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), -1)
nearest = np.linalg.norm(grid[..., None, :] - seeds, axis=-1).argmin(-1)
labels = np.array([0, 1, 2, 3, 255, 0, 1, 2, 3, 1, 0, 2, 0, 3], dtype=np.uint8)[nearest]
add("image", image)
add("labels", labels)

for number, (patch, degrees, scales) in enumerate(
    [
        ((10, 9, 13), (20.0, -15.0, 30.0), (1.0, 1.0, 1.0)),
        ((12, 11, 15), (0.0, 0.0, 0.0), (0.8, 0.8, 0.8)),
        ((14, 11, 17), (0.0, 0.0, 0.0), (1.35, 1.35, 1.35)),
        ((18, 15, 21), (-25.0, 10.0, 5.0), (1.2, 1.2, 1.2)),
        ((12, 9, 15), (0.0, 0.0, 70.0), (0.75, 0.75, 1.0)),
        ((12, 9, 15), (130.0, 0.0, 0.0), (1.0, 1.1, 1.1)),
    ]
):
    transform = SpatialTransform(
        patch,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=1,
        rotation=lambda image, dim: np.deg2rad(degrees[dim]),
        p_scaling=1,
        scaling=lambda image, dim: scales[dim],
        p_synchronize_scaling_across_axes=0,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    # np.random.uniform() <= 0 is false: one factor per axis.
    data = {"image": torch.from_numpy(image.copy())}
    parameters = transform.get_parameters(**data)
    moved = transform._apply_to_image(data["image"], **parameters).numpy()
    seg = transform._apply_to_segmentation(torch.from_numpy(labels[None].astype(np.int16)), **parameters)[0].numpy()
    seg[seg == -1] = 0  # RemoveLabelTansform(-1, 0)
    common = {"degrees": degrees, "scales": scales, "patch": patch}
    add(f"spatial{number}.image", moved, **common)
    add(f"spatial{number}.labels", seg.astype(np.uint8), **common)

one = torch.from_numpy(image[:1].copy())


def intensity(name, transform, parameters, **kept):
    out = transform._apply_to_image(one.clone(), **parameters)
    add(name, out[0].numpy(), **kept)


channel = torch.tensor([0])
for number, sigma in enumerate([(0.5, 0.75, 1.0), (0.9, 0.6, 0.55)]):
    transform = GaussianBlurTransform(1.0, False, False, 1, benchmark=False)
    intensity(f"blur{number}", transform, {"apply_to_channel": torch.tensor([True]), "sigmas": [sigma]}, sigma=sigma)
transform = MultiplicativeBrightnessTransform(1.0, False, 1)
intensity("brightness", transform, {"apply_to_channel": channel, "multipliers": torch.tensor([1.2])}, factor=1.2)
for number, factor in enumerate([0.8, 1.25]):
    transform = ContrastTransform(1.0, True, False, 1)
    parameters = {"apply_to_channel": channel, "multipliers": torch.tensor([factor])}
    intensity(f"contrast{number}", transform, parameters, factor=factor)
for number, zoom in enumerate([(0.5, 0.5, 0.5), (0.83, 0.83, 0.83), (1.0, 0.6, 0.6)]):
    transform = SimulateLowResolutionTransform(1.0, False, True, None)
    parameters = {"apply_to_channel": channel, "scales": torch.tensor([zoom])}
    intensity(f"low_resolution{number}", transform, parameters, zoom=zoom)
for number, (exponent, inverted) in enumerate([(0.7, False), (1.45, False), (0.8, True), (1.3, True)]):
    transform = GammaTransform(1.0, 1, False, 1, 1)
    parameters = {
        "apply_to_channel": channel,
        "retain_stats": torch.tensor([True]),
        "invert_image": torch.tensor([inverted]),
        "gamma": torch.tensor([exponent]),
    }
    intensity(f"gamma{number}", transform, parameters, exponent=exponent, inverted=inverted)

# The operations of composed policies: NumPy and SciPy in f64.
from scipy.ndimage import correlate1d  # noqa: E402


def gauss(sigma, order):
    """SciPy's kernels; that of the second derivative less what keeps it from summing to 0."""
    reach = int(4 * sigma + 0.5)
    d = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (d / sigma) ** 2)
    weights /= weights.sum()
    if order == 0:
        return weights
    curve = weights * (d**2 / sigma**4 - 1 / sigma**2)
    return curve - curve.sum() * weights


first = image[0].astype(np.float64)
for number, sigma in enumerate([0.5, 0.9]):
    laplace = 0
    for second in range(3):
        part = first
        for axis in range(3):
            # "mirror" of SciPy continues about the outer voxels.
            part = correlate1d(part, gauss(sigma, 2 if axis == second else 0), axis=axis, mode="mirror")
        laplace = laplace + part
    sharp = np.clip(first - laplace, first.min(), first.max())
    add(f"composed.sharpen.{number}", sharp.astype(np.float32), sigma=sigma)
for number, zoom in enumerate([(0.5, 0.5, 0.5), (0.83, 0.7, 0.61)]):
    coarse = [int(np.round(n * z)) for n, z in zip(SHAPE, zoom)]
    down = torch.nn.functional.interpolate(
        torch.from_numpy(first[None, None]), size=coarse, mode="trilinear", align_corners=False
    )
    up = torch.nn.functional.interpolate(down, size=SHAPE, mode="nearest-exact")[0, 0].numpy()
    add(f"composed.coarse.{number}", up.astype(np.float32), zoom=zoom)
low, high = first.min(), first.max()
for number, (exponent, inverted) in enumerate([(0.75, False), (1.25, False), (1.25, True)]):
    unit = (first - low) / (high - low) if not inverted else (high - first) / (high - low)
    power = unit**exponent * (high - low)
    add(
        f"composed.gamma.{number}",
        (low + power if not inverted else high - power).astype(np.float32),
        exponent=exponent,
        inverted=inverted,
    )

OUT.mkdir(exist_ok=True)
(OUT / "augment.bin").write_bytes(b"".join(a.tobytes() for a in arrays))
(OUT / "augment.json").write_text(json.dumps(index, indent=1) + "\n")
