"""Reference values for tests/it/classical_learned.rs: trees, label fusion, sparse coding and features.

Needs NumPy 2, SciPy 1.15, scikit-learn 1.9 and SimpleITK 2.5. Run from the root of the repository:
`python tests/reference/make_classical_learned.py`. Writes tests/data/classical_learned.json.
"""

import json
import pathlib

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from sklearn.linear_model import Lasso, orthogonal_mp
from sklearn.tree import DecisionTreeClassifier

DATA = pathlib.Path(__file__).parent.parent / "data"


def h(x, y, z):
    """Noise in [0, 1) from three whole numbers, in 32-bit arithmetic."""
    x, y, z = (np.asarray(v, np.uint32) for v in (x, y, z))
    n = (x * np.uint32(73856093)) ^ (y * np.uint32(19349663)) ^ (z * np.uint32(83492791))
    n = (n ^ (n >> np.uint32(13))) * np.uint32(1274126177)
    return ((n ^ (n >> np.uint32(16))) % np.uint32(65536)).astype(np.float64) / 65536


def vol(shape, ox=0, oy=0, oz=0):
    x, y, z = np.indices(shape)
    return h(x + ox, y + oy, z + oz)


def tree():
    row, j = np.arange(60)[:, None], np.arange(4)[None]
    x = h(row, j, 1)
    y = np.where(x[:, 0] + 0.5 * x[:, 1] > 0.9, 2, np.where(x[:, 2] > 0.5, 1, 0))
    y = np.where(h(np.arange(60), 9, 9) < 0.1, (y + 1) % 3, y)
    counts = np.bincount(y)
    found = {"classes": y.tolist()}
    # Deeper, the weighted tree has two cuts that are equally good, and which is taken is drawn.
    for name, depth, weights in (("plain", 3, np.ones(60)), ("weighted", 2, 60 / (3 * counts[y]))):
        model = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=3, random_state=0)
        model.fit(x.astype(np.float32), y, sample_weight=weights)
        t = model.tree_

        def node(i):
            if t.children_left[i] < 0:
                return {"p": (t.value[i, 0] / t.value[i, 0].sum()).tolist()}
            return {"feature": int(t.feature[i]), "threshold": float(t.threshold[i]),
                    "left": node(t.children_left[i]), "right": node(t.children_right[i])}

        found[name] = {"depth": depth, "weights": weights.tolist(), "tree": node(0), "importances": model.feature_importances_.tolist(),
                       "root_impurity": float(t.impurity[0])}
    return found


def binary_raters():
    shape = (10, 9, 8)
    x, y, z = np.indices(shape)
    raters = []
    balls = [((4.5, 4, 3.5), 3.2, 0.02), ((4.5, 4, 3.5), 3.6, 0.05), ((5.2, 4, 3.5), 3.2, 0.02),
             ((4.5, 4.8, 3.5), 2.8, 0.05), ((4.5, 4, 4.5), 3.4, 0.10)]  # fmt: skip
    for n, (c, r, q) in enumerate(balls):
        ball = (x - c[0]) ** 2 + (y - c[1]) ** 2 + (z - c[2]) ** 2 <= r * r
        raters.append(ball ^ (vol(shape, 0, 0, 100 * (n + 1)) < q))
    return np.array(raters).astype(np.uint8)


def three_raters():
    shape = (10, 9, 8)
    x, y, _ = np.indices(shape)
    raters = []
    for n in range(4):
        label = np.where(x < 4, 0, np.where(y + 0.5 * n < 4, 1, 2))
        raters.append(np.where(vol(shape, 0, 50, 100 * (n + 1)) < 0.04 * (n + 1), (label + 1) % 3, label))
    return np.array(raters).astype(np.uint8)


def em(votes, k, rounds=5000):
    """STAPLE on (rater, voxel) votes, in the plainest way; returns prior, theta (rater, said, true), W (voxel, true)."""
    said = np.eye(k)[votes]
    prior = said.mean((0, 1))
    counts = said.sum(0)
    w = (counts == counts.max(1, keepdims=True)).astype(float)
    w[w.sum(1) > 1] = 0
    for _ in range(rounds):
        theta = np.einsum("nis,it->nst", said, w) / w.sum(0)
        log = np.log(np.maximum(theta, 1e-300))
        w = np.log(prior) + np.einsum("nis,nst->it", said, log)
        w = np.exp(w - w.max(1, keepdims=True))
        w /= w.sum(1, keepdims=True)
    return prior, theta, w


def staple():
    raters = binary_raters()
    images = [sitk.GetImageFromArray(r) for r in raters]
    f = sitk.STAPLEImageFilter()
    f.SetForegroundValue(1)
    f.SetMaximumIterations(10000)
    w = sitk.GetArrayFromImage(f.Execute(images))
    everywhere = {"sensitivity": list(f.GetSensitivity()), "specificity": list(f.GetSpecificity()),
                  "sum": float(w.sum()), "above": int((w > 0.5).sum())}  # fmt: skip
    flat = raters.reshape(5, -1)
    some = (flat != flat[0]).any(0)
    prior, theta, w = em(flat[:, some], 2)
    disputed = {"voxels": int(some.sum()), "prior": prior[1], "sensitivity": theta[:, 1, 1].tolist(),
                "specificity": theta[:, 0, 0].tolist(), "above": int((w[:, 1] > 0.5).sum())}  # fmt: skip
    three = three_raters()
    prior, theta, w = em(three.reshape(4, -1), 3)
    multi = sitk.GetArrayFromImage(sitk.MultiLabelSTAPLE([sitk.GetImageFromArray(r) for r in three], 3))
    return {"everywhere": everywhere, "disputed": disputed,
            "three": {"prior": prior.tolist(), "theta": np.where(theta < 1e-100, 0, theta).tolist(),
                      "labels": np.bincount(w.argmax(1), minlength=3).tolist(),
                      "as_simpleitk": int((multi.reshape(-1) == w.argmax(1)).sum())}}  # fmt: skip


def patches():
    p = [vol((3, 3, 3), 0, 0, 50 * n) for n in range(4)]
    atlases = [0.7 * p[0] + 0.3 * p[1], 0.7 * p[0] + 0.3 * p[2], 0.2 * p[0] + 0.8 * p[3]]

    def normal(a):
        return ((a - a.mean()) / a.std(ddof=1)).ravel()

    target = normal(p[0])
    e = np.array([abs(target - normal(a)) for a in atlases])
    m = (e @ e.T / 26) ** 2
    w = np.linalg.solve(m + 0.1 * np.eye(3), np.ones(3))
    w /= w.sum()
    cut = np.maximum(w, 0)
    d = np.array([((target - normal(a)) ** 2).mean() for a in atlases])
    local = np.exp(-d / 0.5)
    return {"joint": (cut / cut.sum()).tolist(), "uncut": w.tolist(), "local": (local / local.sum()).tolist()}


def similarity():
    shape, s = (16, 14, 12), (1, 1, 1.5)
    u = np.indices(shape)

    def blob(c):
        return 100 * np.exp(-0.5 * sum(((u[k] - c[k]) * s[k] / (3, 4, 5)[k]) ** 2 for k in range(3)))

    f = blob((7.5, 6.5, 5.5)) + 10 * vol(shape)
    m = 200 - 1.5 * blob((8.3, 6.1, 5.9)) + 10 * vol(shape, 200)
    joint = np.histogram2d(f.ravel(), m.ravel(), 16)[0] / f.size

    def entropy(q):
        return -(q[q > 0] * np.log(q[q > 0])).sum()

    nmi = (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint)
    return {"ncc": float(np.corrcoef(f.ravel(), m.ravel())[0, 1]), "nmi": float(nmi)}


def coding():
    i, j = np.indices((12, 20))
    d = h(i, j, 21) - 0.5
    d /= np.linalg.norm(d, axis=0)
    y = 0.8 * d[:, 3] + 0.5 * d[:, 7] + 0.05 * (h(np.arange(12), 0, 77) - 0.5)
    y /= np.linalg.norm(y)
    found = {"omp": orthogonal_mp(d, y, n_nonzero_coefs=3).tolist()}
    for name, positive in (("lasso", False), ("positive", True)):
        # Its quadratic term is divided by the number of rows.
        model = Lasso(alpha=0.05 / 12, positive=positive, fit_intercept=False, tol=1e-14, max_iter=1_000_000)
        x = model.fit(d, y).coef_
        found[name] = {"x": x.tolist(), "value": float(0.5 * ((y - d @ x) ** 2).sum() + 0.05 * abs(x).sum())}
    i, j = np.indices((12, 6))
    d = h(i, j, 31) - 0.5
    d /= np.linalg.norm(d, axis=0)
    i, j = np.indices((12, 40))
    y = h(i, j, 41) - 0.5
    x = orthogonal_mp(d, y, n_nonzero_coefs=2)
    ksvd = {"before": float(((y - d @ x) ** 2).sum()), "uses": (x != 0).sum(1).tolist()}
    for k in range(6):
        use = x[k] != 0
        e = y[:, use] - d @ x[:, use] + np.outer(d[:, k], x[k, use])
        u, s, vt = np.linalg.svd(e, full_matrices=False)
        sign = 1 if u[:, 0] @ d[:, k] >= 0 else -1
        d[:, k] = sign * u[:, 0]
        x[k, use] = sign * s[0] * vt[0]
    ksvd.update(after=float(((y - d @ x) ** 2).sum()), atom=d[:, 0].tolist())
    return found | {"ksvd": ksvd}


def features():
    v, s = vol((9, 8, 7)), np.array([1, 1, 1.5])
    options = {"sigma": 1 / s, "mode": "reflect", "truncate": 4.0}
    smooth = ndimage.gaussian_filter(v, **options)
    gradient = [ndimage.gaussian_filter(v, order=np.eye(3, dtype=int)[a], **options) / s[a] for a in range(3)]
    hessian = np.empty((3, 3) + v.shape)
    for a in range(3):
        for b in range(3):
            order = np.eye(3, dtype=int)[a] + np.eye(3, dtype=int)[b]
            hessian[a, b] = ndimage.gaussian_filter(v, order=order, **options) / (s[a] * s[b])
    at = (4, 4, 3)
    return {"smooth": [smooth[at], smooth[0, 0, 0]], "magnitude": float(np.sqrt(sum(g[at] ** 2 for g in gradient))),
            "eigenvalues": np.linalg.eigvalsh(hessian[(slice(None), slice(None)) + at]).tolist()}  # fmt: skip


if __name__ == "__main__":
    np.seterr(over="ignore")
    result = {"tree": tree(), "staple": staple(), "patches": patches(), "similarity": similarity(), "coding": coding(),
              "features": features()}  # fmt: skip
    (DATA / "classical_learned.json").write_text(json.dumps(result, indent=0) + "\n")
