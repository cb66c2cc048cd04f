"""Reference values for tests/it/prepare.rs: what nnU-Net's preprocessor makes of two small scans, and how its
export brings class scores back.

Needs nnunetv2 2.8.1. Run from the root of the repository: `python tests/reference/make_prepare.py`. Writes
tests/data/prepare.json and tests/data/prepare.bin. Arrays are in nnU-Net's order (z, y, x).
"""

import functools
import json
import pathlib
from types import SimpleNamespace

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

DATA = pathlib.Path(__file__).parent.parent / "data"
CT = {"mean": 40.0, "std": 60.0, "percentile_00_5": -50.0, "percentile_99_5": 120.0}

# shape, spacing, target spacing, schemes, masked
CASES = [
    ((18, 16, 14), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), ["ZScoreNormalization", "ZScoreNormalization"], True),
    ((18, 16, 14), (1.2, 0.9, 0.8), (1.0, 1.0, 1.0), ["ZScoreNormalization", "CTNormalization"], False),
    ((9, 16, 18), (4.0, 0.9, 0.8), (3.0, 1.0, 1.0), ["ZScoreNormalization"], True),
    ((16, 9, 18), (0.9, 1.5, 0.8), (1.0, 3.5, 1.0), ["RescaleTo01Normalization"], False),
]


def scan(rng, shape, channels):
    """A head of noise with a hollow inside, in a frame of zeros, and two labels in it."""
    z, y, x = np.mgrid[:shape[0], :shape[1], :shape[2]]
    centre = [(n - 1) / 2 for n in shape]
    radius = np.sqrt(sum(((a - c) / (0.42 * n)) ** 2 for a, c, n in zip((z, y, x), centre, shape)))
    images = (rng.normal(size=(channels, *shape)) * 50 + 60).astype(np.float32)
    images[:, (radius > 1) | (radius < 0.25)] = 0
    labels = np.zeros(shape, np.int16)
    labels[(radius < 0.7) & (x > centre[2])] = 1
    labels[(radius < 0.6) & (y > centre[1]) & (z > centre[0])] = 2
    return images, labels


def main():
    rng = np.random.default_rng(7)
    blob, cases = bytearray(), []

    def put(array, kind):
        start = len(blob)
        blob.extend(np.ascontiguousarray(array).astype(kind).tobytes())
        return {"start": start, "shape": list(array.shape)}

    for shape, spacing, target, schemes, masked in CASES:
        images, labels = scan(rng, shape, len(schemes))
        resample = functools.partial(resample_data_or_seg_to_shape, order_z=0, force_separate_z=None)
        configuration = SimpleNamespace(
            spacing=list(target), normalization_schemes=schemes,
            use_mask_for_norm=[masked and s == "ZScoreNormalization" for s in schemes],
            resampling_fn_data=functools.partial(resample, is_seg=False, order=3),
            resampling_fn_seg=functools.partial(resample, is_seg=True, order=1),
        )
        manager = SimpleNamespace(has_regions=False, foreground_labels=[1, 2], has_ignore_label=False)
        plans = SimpleNamespace(
            transpose_forward=[0, 1, 2],
            foreground_intensity_properties_per_channel={str(c): CT for c in range(len(schemes))},
            get_label_manager=lambda _: manager,
        )
        data, seg, properties = DefaultPreprocessor(verbose=False).run_case_npy(
            images, labels[None], {"spacing": list(spacing)}, plans, configuration, {})
        cropped = properties["shape_after_cropping_and_before_resampling"]
        scores = rng.normal(size=(3, *data.shape[1:])).astype(np.float32)
        back = resample(scores, cropped, target, spacing, is_seg=False, order=1)
        cases.append({
            "spacing": spacing, "target": target, "schemes": schemes, "masked": masked,
            "crop": [[int(a), int(b)] for a, b in properties["bbox_used_for_cropping"]],
            "images": put(images, "<f4"), "labels": put(labels, "u1"),
            "data": put(data, "<f4"), "seg": put(np.maximum(seg[0], 0), "u1"),
            "scores": put(scores, "<f4"), "back": put(back, "<f4"),
        })
    (DATA / "prepare.json").write_text(json.dumps({"ct": CT, "cases": cases}) + "\n")
    (DATA / "prepare.bin").write_bytes(blob)
    print(len(blob), "bytes")


if __name__ == "__main__":
    main()
