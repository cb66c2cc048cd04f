"""Makes tests/data/register.json: what NumPy and SimpleITK say of similarities, of the exponential of a velocity
field, and of an image read through an affine between two oblique grids.

    pip install numpy scipy SimpleITK
    python tests/reference/make_register.py
"""

import json
import pathlib

import numpy as np
import SimpleITK as sitk
from scipy.linalg import expm
from scipy.ndimage import map_coordinates


def noise(shape, offset=(0, 0, 0)):
    """Values in [0, 1) that the tests make too, from 32-bit arithmetic that wraps."""
    x, y, z = (np.arange(n, dtype=np.uint64) + o for n, o in zip(shape, offset))
    wrap = np.uint64(0xFFFFFFFF)
    n = (x[:, None, None] * np.uint64(73856093)) & wrap
    n = n ^ ((y[None, :, None] * np.uint64(19349663)) & wrap)
    n = n ^ ((z[None, None, :] * np.uint64(83492791)) & wrap)
    n = ((n ^ (n >> np.uint64(13))) * np.uint64(1274126177)) & wrap
    n = n ^ (n >> np.uint64(16))
    return (n % np.uint64(65536)).astype(float) / 65536


def window_sum(a, r):
    out = np.zeros_like(a)
    for x, y, z in np.ndindex(a.shape):
        out[x, y, z] = a[max(0, x - r):x + r + 1, max(0, y - r):y + r + 1, max(0, z - r):z + r + 1].sum()
    return out


def local_correlation(f, m, r, floor):
    n = window_sum(np.ones_like(f), r)
    sf, sm = window_sum(f, r), window_sum(m, r)
    a = window_sum(f * m, r) - sf * sm / n
    b = window_sum(f * f, r) - sf * sf / n
    c = window_sum(m * m, r) - sm * sm / n
    return (a * a / ((b + floor) * (c + floor))).mean()


def local():
    shape = (10, 9, 8)
    f, m = noise(shape), 0.5 * noise(shape) + 0.5 * noise(shape, (30, 0, 0))
    slopes = []
    for at in [(4, 4, 4), (0, 0, 0), (9, 8, 7)]:
        values = []
        for step in (1e-4, -1e-4):
            moved = m.copy()
            moved[at] += step
            values.append(local_correlation(f, moved, 2, 1e-3))
        slopes.append({"at": at, "value": (values[0] - values[1]) / 2e-4})
    return {"mean": local_correlation(f, m, 2, 1e-3), "slopes": slopes}


def image(values, spacing):
    out = sitk.GetImageFromArray(values.transpose(2, 1, 0))
    out.SetSpacing(spacing)
    return out


def evaluate(f, m, metric, shift=(0.0, 0.0, 0.0)):
    method = sitk.ImageRegistrationMethod()
    metric(method)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(sitk.TranslationTransform(3, shift))
    return method.MetricEvaluate(f, m)


def similarities():
    shape, spacing = (16, 14, 12), (1.0, 1.0, 1.5)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)

    def blob(centre):
        away = (grid - centre) * spacing / np.array([3.0, 4.0, 5.0])
        return 100 * np.exp(-0.5 * (away**2).sum(-1))

    f = blob((7.5, 6.5, 5.5)) + 10 * noise(shape)
    m = 200 - 1.5 * blob((8.3, 6.1, 5.9)) + 10 * noise(shape, (200, 0, 0))
    fixed, moving = image(f, spacing), image(m, spacing)

    def shares(bins):
        joint, _, _ = np.histogram2d(f.ravel(), m.ravel(), bins=bins)
        joint /= joint.sum()
        entropy = lambda p: -(p[p > 0] * np.log(p[p > 0])).sum()
        return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint)

    shift = (0.4, 0.3, -0.6)
    inside = [np.arange(n) + s / d for n, s, d in zip(shape, shift, spacing)]
    inside = [((p >= -0.5) & (p <= n - 0.5)).sum() for p, n in zip(inside, shape)]
    return {
        "mean_square": evaluate(fixed, moving, lambda r: r.SetMetricAsMeanSquares()),
        "correlation": -np.sqrt(-evaluate(fixed, moving, lambda r: r.SetMetricAsCorrelation())),
        "local": {r: local_correlation(f, m, r, 0.0) for r in (1, 2)},
        "mattes": {
            b: -evaluate(fixed, moving, lambda r: r.SetMetricAsMattesMutualInformation(b)) for b in (16, 32)
        },
        "nmi": shares(16),
        "shifted": {
            "mean_square": evaluate(fixed, moving, lambda r: r.SetMetricAsMeanSquares(), shift),
            "correlation": -np.sqrt(-evaluate(fixed, moving, lambda r: r.SetMetricAsCorrelation(), shift)),
            "mattes": -evaluate(fixed, moving, lambda r: r.SetMetricAsMattesMutualInformation(32), shift),
            "voxels": int(np.prod(inside)),
        },
    }


def exponential():
    rate = np.array([[0.05, -0.12, 0.02], [0.10, -0.04, 0.03], [-0.02, 0.06, 0.08]])
    grid = np.stack(np.meshgrid(*[np.arange(21.0)] * 3, indexing="ij"))
    velocity = np.einsum("ij,jxyz->ixyz", rate, grid - 10)
    exact = np.einsum("ij,jxyz->ixyz", expm(rate) - np.eye(3), grid - 10)
    errors = {}
    for n in (2, 4, 6):
        u = velocity / 2**n
        for _ in range(n):
            u = u + np.stack([map_coordinates(c, grid + u, order=1, mode="nearest") for c in u])
        inner = (slice(None),) + (slice(5, 16),) * 3
        errors[n] = np.abs(u - exact)[inner].max()
    return {
        "rate": rate.tolist(),
        "errors": errors,
        "vector": u[:, 14, 8, 12].tolist(),
        "determinant": float(np.linalg.det(expm(rate))),
    }


def oblique():
    """A moving image on an oblique grid with a flipped axis, read by SimpleITK on another grid through an affine."""
    shape_m, shape_f = (12, 11, 9), (10, 12, 8)

    def turned(angles, spacing, flip):
        rotation = np.eye(3)
        for axis, angle in enumerate(angles):
            c, s = np.cos(angle), np.sin(angle)
            i, j = (axis + 1) % 3, (axis + 2) % 3
            turn = np.eye(3)
            turn[i, i] = turn[j, j] = c
            turn[i, j], turn[j, i] = -s, s
            rotation = rotation @ turn
        return rotation @ np.diag(np.array(spacing) * flip)

    grids = {
        "moving": (turned((0.3, -0.2, 0.1), (1.1, 0.9, 1.4), (1, -1, 1)), np.array([3.0, -2.0, 5.0]), shape_m),
        "fixed": (turned((-0.1, 0.4, 0.2), (1.2, 1.0, 1.3), (-1, 1, 1)), np.array([2.5, -1.0, 4.0]), shape_f),
    }
    # The transform in RAS+ millimetres: from points of the fixed image to points of the moving one.
    matrix = np.array([[1.03, 0.05, -0.02], [-0.04, 0.96, 0.06], [0.03, -0.05, 1.05]])
    shift = np.array([0.4, -0.7, 0.9])
    to_lps = np.diag([-1.0, -1.0, 1.0])
    out = {"matrix": matrix.tolist(), "shift": shift.tolist()}
    images = {}
    for name, (linear, centre, shape) in grids.items():
        origin = centre - linear @ ((np.array(shape) - 1) / 2)
        out[name] = {"shape": shape, "affine": np.hstack([linear, origin[:, None]]).tolist()}
        scan = image(100 * noise(shape, (7, 0, 0)), np.linalg.norm(linear, axis=0).tolist())
        scan.SetOrigin((to_lps @ origin).tolist())
        scan.SetDirection((to_lps @ linear / np.linalg.norm(linear, axis=0)).ravel().tolist())
        images[name] = scan
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((to_lps @ matrix @ to_lps).ravel().tolist())
    transform.SetTranslation((to_lps @ shift).tolist())
    read = sitk.Resample(images["moving"], images["fixed"], transform, sitk.sitkLinear, -1.0)
    out["values"] = np.round(sitk.GetArrayFromImage(read).transpose(2, 1, 0), 5).ravel().tolist()
    return out


def main():
    out = {
        "local": local(),
        "similarities": similarities(),
        "exponential": exponential(),
        "oblique": oblique(),
    }
    place = pathlib.Path(__file__).parents[1] / "data" / "register.json"
    place.write_text(json.dumps(out) + "\n")


main()
