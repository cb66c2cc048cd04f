"""Reference values for tests/it/resample.rs: nnU-Net's own resampling of small random volumes.

Needs nnunetv2 2.8.1 (with batchgenerators 0.25.5, scikit-image 0.26, scipy 1.17). Run from the root of the
repository: `python tests/reference/make_resample.py`. Writes tests/data/resample.json and tests/data/resample.bin.
"""

import json
import pathlib

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape, determine_do_sep_z_and_axis, resample_data_or_seg_to_shape)

DATA = pathlib.Path(__file__).parent.parent / "data"

# shape, spacing, new spacing
CASES = [
    ([7, 9, 11], [1.0, 1.0, 1.0], [0.7, 1.4, 0.8]),
    ([16, 5, 12], [1.0, 1.0, 1.0], [2.0, 1.0, 0.5]),
    ([6, 6, 6], [1.0, 1.0, 1.0], [0.5, 0.5, 0.5]),
    ([1, 13, 40], [2.0, 1.0, 1.0], [1.0, 1.3, 0.9]),
    ([5, 14, 12], [5.0, 1.0, 1.1], [2.5, 1.2, 0.9]),
    ([14, 12, 5], [1.0, 1.1, 5.0], [1.2, 0.9, 3.0]),
    ([12, 6, 13], [0.9, 4.0, 1.0], [1.1, 4.0, 1.0]),
    ([9, 8, 4], [1.0, 1.0, 5.0], [1.0, 1.0, 2.5]),
    ([10, 12, 9], [1.0, 1.0, 2.5], [0.8, 0.8, 3.2]),
    ([5, 20, 20], [0.2, 1.25, 1.25], [0.4, 1.0, 1.0]),
]


def main():
    rng = np.random.default_rng(20)
    cases, blob = [], bytearray()
    for shape, spacing, new_spacing in CASES:
        new_shape = compute_new_shape(shape, spacing, new_spacing)
        _, axis = determine_do_sep_z_and_axis(None, spacing, new_spacing)
        image = (rng.normal(size=shape) * 100 + 30).astype(np.float32)
        # Blobs of several labels, so that three and more meet at many points.
        labels = rng.integers(0, 4, size=[max(1, s // 2 + 1) for s in shape])
        labels = np.kron(labels, np.ones((2, 2, 2), int))[:shape[0], :shape[1], :shape[2]].astype(np.int16)
        keywords = dict(order_z=0, force_separate_z=None)
        cubic = resample_data_or_seg_to_shape(
            image[None], new_shape, spacing, new_spacing, is_seg=False, order=3, **keywords)[0]
        seg = resample_data_or_seg_to_shape(
            labels[None], new_shape, spacing, new_spacing, is_seg=True, order=1, **keywords)[0]
        start = len(blob)
        blob += image.astype("<f4").tobytes() + labels.astype("u1").tobytes()
        blob += cubic.astype("<f4").tobytes() + seg.astype("u1").tobytes()
        cases.append({
            "shape": shape, "spacing": spacing, "new_spacing": new_spacing,
            "new_shape": [int(i) for i in new_shape], "separate_axis": None if axis is None else int(axis),
            "start": start,
        })
    (DATA / "resample.json").write_text(json.dumps(cases, indent=1) + "\n")
    (DATA / "resample.bin").write_bytes(blob)
    print(len(cases), "cases", len(blob), "bytes")


if __name__ == "__main__":
    main()
