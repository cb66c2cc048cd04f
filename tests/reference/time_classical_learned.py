"""Processor seconds of the classical methods and of other programs on the same data, in turns, one thread each.

Run from the root of the repository, with the benchmark that `cargo bench --no-run` names:
    python tests/reference/time_classical_learned.py PATH/classical_learned-HASH forest joint staple
"""

import json
import os
import subprocess
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
os.environ["RAYON_NUM_THREADS"] = "1"
import numpy as np  # noqa: E402

ROUNDS = 3


def h(x, y, z):
    n = (x * np.uint32(73856093)) ^ (y * np.uint32(19349663)) ^ (z * np.uint32(83492791))
    n = (n ^ (n >> np.uint32(13))) * np.uint32(1274126177)
    return ((n ^ (n >> np.uint32(16))) % np.uint32(65536)).astype(np.float64) / 65536


def ours(program, name):
    return json.loads(subprocess.run([program, name], check=True, stdout=subprocess.PIPE).stdout)


def in_turns(program, name, other):
    """Both in turns; prints the best of each and their ratio, part by part."""
    found = []
    for _ in range(ROUNDS):
        found.append((ours(program, name), other()))
    for part in found[0][1]:
        values = [[pair[i][part] for pair in found] for i in (0, 1)]
        if part in ("fit", "predict", "seconds"):
            mine, theirs = min(values[0]), min(values[1])
            print(f"{name}, {part}: ours {mine:.3f} s, other {theirs:.3f} s, ratio {mine / theirs:.2f}")
        else:
            print(f"{name}, {part}: ours {values[0][0]:.6g}, other {values[1][0]:.6g}")


def forest_rows(first, count):
    row, j = (np.arange(n, dtype=np.uint32) for n in (count, 29))
    row, j = row[:, None] + np.uint32(first), j[None]
    one = np.uint32(1)
    x = 0.5 * (h(row, j, one) + h(row, j + one, one))
    y = np.where(x[:, 0] + 0.5 * x[:, 1] > 0.9, 2, np.where(x[:, 5] + x[:, 9] > 1.1, 1, 0))
    changed = h(row[:, 0], np.uint32(99), np.uint32(9)) < 0.2
    return x.astype(np.float32), np.where(changed, (y + 1) % 3, y)


def forest():
    """scikit-learn's forest: 74,000 rows of 29 features, 50 trees of depth 20; then 50,000 unseen rows."""
    from sklearn.ensemble import RandomForestClassifier

    x, y = forest_rows(0, 74_000)
    unseen, truth = forest_rows(74_000, 50_000)
    model = RandomForestClassifier(50, max_depth=20, min_samples_leaf=5, max_features=6, n_jobs=1, random_state=1)
    start = time.process_time()
    model.fit(x, y)
    fitted = time.process_time()
    p = model.predict_proba(unseen)
    done = time.process_time()
    nodes = sum(tree.tree_.node_count for tree in model.estimators_)
    return {"fit": fitted - start, "predict": done - fitted, "nodes": nodes, "right": float(np.mean(p.argmax(1) == truth))}


def from_middle(shape):
    return np.sqrt(sum((u - (n - 1) / 2) ** 2 for u, n in zip(np.indices(shape), shape)))


def noise(shape, oz):
    x, y, z = (u.astype(np.uint32) for u in np.indices(shape))
    return h(x, y, z + np.uint32(oz))


def joint():
    """ANTs' joint label fusion (antspyx) of twelve atlases over 6,000 voxels where they differ."""
    import ants

    shape = (36, 50, 36)
    images = [ants.from_numpy(noise(shape, 100 * n)) for n in range(13)]
    r = from_middle(shape)
    # Its background is no label of its own: labels are 1 and 2.
    labels = [(r < 9 + 3.93 * n / 11) + 1 for n in range(12)]
    mask = ants.from_numpy(((r < 9 + 3.93) & (r >= 9)).astype(np.float64))
    labels = [ants.from_numpy(label.astype(np.float64)) for label in labels]
    start = time.process_time()
    fused = ants.joint_label_fusion(images[0], mask, images[1:], beta=2, rho=0.1, rad=2, label_list=labels, r_search=0)
    seconds = time.process_time() - start
    inside = int(((fused["segmentation"].numpy() == 2) & (mask.numpy() > 0)).sum() + (r < 9).sum())
    return {"seconds": seconds, "inside": inside}


def staple():
    """SimpleITK's STAPLE of twelve raters over all voxels."""
    import SimpleITK as sitk

    ball = from_middle((64,) * 3) < 20
    raters = [ball ^ (noise((64,) * 3, 100 * (n + 1)) < np.float32(0.1)) for n in range(12)]
    images = [sitk.GetImageFromArray(rater.astype(np.uint8)) for rater in raters]
    start = time.process_time()
    f = sitk.STAPLEImageFilter()
    f.SetForegroundValue(1)
    w = sitk.GetArrayViewFromImage(f.Execute(images))
    return {"seconds": time.process_time() - start, "inside": int((w > 0.5).sum())}


if __name__ == "__main__":
    np.seterr(over="ignore")
    for chosen in sys.argv[2:]:
        in_turns(sys.argv[1], chosen, {"forest": forest, "joint": joint, "staple": staple}[chosen])
