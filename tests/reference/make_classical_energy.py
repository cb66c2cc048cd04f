"""Reference values for tests/it/classical_energy.rs: the energy-based methods in plain NumPy, in f64.

Needs NumPy 2.4, SciPy 1.17, PyMaxflow 1.3.2 (GPL: it runs here and nowhere else) and scikit-image 0.26. Run from the root of
the repository: `python tests/reference/make_classical_energy.py`. Writes tests/data/classical_energy.json.
"""

import itertools
import json
import pathlib

import maxflow
import numpy as np
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import maximum_flow
from scipy.sparse.linalg import spsolve

DATA = pathlib.Path(__file__).parent.parent / "data"


def noise(x, y, z):
    """A hash of the place, in [0, 1)."""
    n = (x.astype(np.uint32) * np.uint32(73856093)) ^ (y.astype(np.uint32) * np.uint32(19349663))
    n ^= z.astype(np.uint32) * np.uint32(83492791)
    n = (n ^ (n >> np.uint32(13))) * np.uint32(1274126177)
    return ((n ^ (n >> np.uint32(16))) % 65536) / 65536.0


def places(shape):
    return np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")


def volume(shape, ox=0, oy=0, oz=0):
    x, y, z = places(shape)
    return noise(x + ox, y + oy, z + oz)


def textbook_flow():
    """Six nodes: source 0, inner 1 to 4, sink 5."""
    edges = [(0, 1, 16), (0, 2, 13), (1, 3, 12), (2, 1, 4), (3, 2, 9), (2, 4, 14), (4, 3, 7), (3, 5, 20), (4, 5, 4)]
    graph = csr_array(([c for *_, c in edges], ([a for a, *_ in edges], [b for _, b, _ in edges])), shape=(6, 6))
    return int(maximum_flow(graph.astype(np.int32), 0, 5).flow_value)


def expansion():
    """Every labelling of a box of 12 voxels, with three classes and with the first two of them."""
    shape, spacing = (3, 2, 2), (1, 1, 2)
    data = np.stack([volume(shape, 10 * k, 10 * k, 10 * k) for k in range(3)])
    found = []
    for lam in (0.1, 0.15, 0.2, 0.25):
        entry = {"lambda": lam, "start": data.argmin(0).ravel().tolist()}
        for classes in (3, 2):
            all_labels = np.array(list(itertools.product(range(classes), repeat=12))).reshape(-1, *shape)
            energy = sum(np.where(all_labels == k, data[k], 0).sum((1, 2, 3)) for k in range(classes))
            for a in range(3):
                energy = energy + lam / spacing[a] * (np.diff(all_labels, axis=a + 1) != 0).sum((1, 2, 3))
            best = energy.argmin()
            entry[f"minimum of {classes}"] = float(energy[best])
            entry[f"labels of {classes}"] = all_labels[best].ravel().tolist()
        found.append(entry)
    return found


def grid_cut(shape, centre, spacing_z, radius, width, costs):
    """The best labelling with two classes, by PyMaxflow."""
    x, y, z = [p.astype(float) for p in places(shape)]
    r = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + spacing_z**2 * (z - centre[2]) ** 2)
    q = np.clip(0.5 / (1 + np.exp((r - radius) / width)) + 0.5 * volume(shape), 1e-4, 1 - 1e-4)
    d0, d1 = np.rint(-1000 * np.log(1 - q)).astype(int), np.rint(-1000 * np.log(q)).astype(int)
    graph = maxflow.Graph[int](d0.size, 3 * d0.size)
    nodes = graph.add_grid_nodes(shape)
    for axis, cost in enumerate(costs):
        structure = np.zeros((3, 3, 3), int)
        structure[tuple(2 if a == axis else 1 for a in range(3))] = 1
        graph.add_grid_edges(nodes, cost, structure=structure, symmetric=True)
    graph.add_grid_tedges(nodes, d1, d0)
    least = graph.maxflow()
    return {"sums": [int(d0.sum()), int(d1.sum())], "energy": int(least), "voxels": int(graph.get_grid_segments(nodes).sum())}


def ahead_and_behind(field, axis):
    """Neighbours along an axis, the border's voxel repeated."""
    padded = np.pad(field, [(int(a == axis),) * 2 for a in range(field.ndim)], mode="edge")
    cut = [slice(None)] * field.ndim
    ahead, behind = list(cut), list(cut)
    ahead[axis], behind[axis] = slice(2, None), slice(None, -2)
    return padded[tuple(ahead)], padded[tuple(behind)]


def difference(field, axis, spacing):
    ahead, behind = ahead_and_behind(field, axis)
    return (ahead - behind) / (2 * spacing[axis])


def laplacian(field, spacing):
    pairs = [ahead_and_behind(field, axis) for axis in range(3)]
    return sum((ahead + behind - 2 * field) / spacing[axis] ** 2 for axis, (ahead, behind) in enumerate(pairs))


def level_set(spacing, sharpness, lam, nu, steps, mu=0.2, epsilon=1.5):
    """Distance-regularised level set on the whole grid, double-well potential."""
    shape = (12, 11, 10)
    x, y, z = places(shape)
    r = np.sqrt(((x - 5) * spacing[0]) ** 2 + ((y - 5) * spacing[1]) ** 2 + ((z - 4) * spacing[2]) ** 2)
    image = 1 / (1 + np.exp(-(3.5 - r) / 0.5)) + 0.05 * volume(shape)
    slope = sum(difference(image, a, spacing) ** 2 for a in range(3))
    g = 1 / (1 + sharpness * slope)
    phi = np.where((x >= 3) & (x < 8) & (y >= 3) & (y < 8) & (z >= 3) & (z < 6), -2.0, 2.0)
    stiffness = sum(s**-2 for s in spacing)
    dt = 0.9 / (2 * mu * stiffness + lam / epsilon * stiffness / 2)
    found = {"step": dt}
    for step in range(1, max(steps) + 1):
        gradient = [difference(phi, a, spacing) for a in range(3)]
        length = np.sqrt(sum(d**2 for d in gradient))
        with np.errstate(divide="ignore", invalid="ignore"):
            well = np.where(length > 1, 1 - 1 / length, np.sin(2 * np.pi * length) / (2 * np.pi * length))
        well = np.where(length == 0, 1.0, well)
        regular = laplacian(phi, spacing) + sum(difference((well - 1) * d, a, spacing) for a, d in enumerate(gradient))
        normal = [d / (length + 1e-10) for d in gradient]
        edge = sum(difference(g, a, spacing) * normal[a] + g * difference(normal[a], a, spacing) for a in range(3))
        delta = np.where(np.abs(phi) <= epsilon, (1 + np.cos(np.pi * phi / epsilon)) / (2 * epsilon), 0)
        phi = phi + dt * (mu * regular + delta * (lam * edge + nu * g))
        if step in steps:
            values = [float(phi[p]) for p in ((5, 5, 4), (2, 5, 4), (8, 5, 4), (0, 0, 0))]
            found[str(step)] = {"values": values, "sum": float(phi.sum()), "inside": int((phi < 0).sum())}
    found["labels"] = (phi < 0).ravel().astype(int).tolist()
    return found


def chan_vese(image, phi, spacing, steps, mu=0.25, dt=0.5):
    """Semi-implicit, all voxels at once; without any axis of one voxel."""
    image = (image - image.min()) / (image.max() - image.min())
    found = {}
    axes = range(image.ndim)
    for step in range(1, max(steps) + 1):
        inside = phi > 0
        means = image[inside].mean(), image[~inside].mean()
        square = [difference(phi, a, spacing) ** 2 for a in axes]
        pull, weight = 0.0, 0.0
        for a in axes:
            ahead, behind = ahead_and_behind(phi, a)
            others = sum(square[b] for b in axes if b != a)
            for neighbour, slope in ((ahead, (ahead - phi) / spacing[a]), (behind, (phi - behind) / spacing[a])):
                c = 1 / (spacing[a] ** 2 * np.sqrt(1e-16 + slope**2 + others))
                pull, weight = pull + neighbour * c, weight + c
        delta = 1 / (1 + phi**2)
        force = -((image - means[0]) ** 2) + (image - means[1]) ** 2
        phi = (phi + dt * delta * (mu * pull + force)) / (1 + mu * dt * delta * weight)
        if step in steps:
            found[str(step)] = {"phi": phi, "means": [float(m) for m in means]}
    return found


def summary(found, points):
    steps = {}
    for step, entry in found.items():
        phi = entry["phi"]
        values = [float(phi[p]) for p in points]
        steps[step] = {"values": values, "sum": float(phi.sum()), "inside": int((phi > 0).sum()), "means": entry["means"]}
    return steps


def chan_vese_flat():
    from skimage.segmentation import chan_vese as published

    x, y = np.meshgrid(np.arange(16), np.arange(14), indexing="ij")
    image = ((x >= 4) & (x < 11) & (y >= 3) & (y < 9)) + 0.2 * noise(x, y, 0 * x)
    start = np.sin(np.pi * x / 5) * np.sin(np.pi * y / 5)
    found = chan_vese(image, start, (1, 1), (1, 10, 100))
    for step, entry in found.items():
        _, theirs, _ = published(image, 0.25, 1, 1, tol=0, max_num_iter=int(step), dt=0.5, init_level_set=start, extended_output=True)
        assert np.abs(theirs - entry["phi"]).max() < 1e-5, step
    return summary(found, ((0, 0), (7, 5), (3, 3), (15, 13)))


def chan_vese_solid():
    shape = (12, 10, 8)
    x, y, z = places(shape)
    image = ((x >= 3) & (x < 9) & (y >= 3) & (y < 7) & (z >= 2) & (z < 6)) + 0.3 * volume(shape)
    start = np.sin(np.pi * x / 5) * np.sin(np.pi * y / 5) * np.sin(np.pi * z / 5)
    return summary(chan_vese(image, start, (1, 1, 2), (1, 10, 100)), ((6, 5, 4), (0, 0, 0), (3, 3, 2), (11, 9, 7)))


def markov(beta=0.6):
    """Hidden Markov random field, three Gaussians, coloured conditional modes."""
    shape, spacing = (8, 7, 6), (1, 1, 2)
    x, y, z = places(shape)
    truth = np.where(x < 3, 0, np.where(y < 4, 1, 2))
    image = np.array([20.0, 50.0, 90.0])[truth] + 40 * (volume(shape) - 0.5) + 20 * (volume(shape, 100) - 0.5)
    mean, deviation = np.array([25.0, 55.0, 85.0]), np.full(3, 15.0)

    def neighbours(labels):
        """Cost of the faces that each class would have."""
        cost = np.zeros((3, *shape))
        for a in range(3):
            padded = np.pad(labels, [(int(b == a),) * 2 for b in range(3)], constant_values=-1)
            for part in (slice(2, None), slice(None, -2)):
                other = padded[tuple(part if b == a else slice(None) for b in range(3))]
                for k in range(3):
                    cost[k] += beta / spacing[a] * ((other != k) & (other >= 0))
        return cost

    def energy(data, labels):
        faces = sum(beta / spacing[a] * (np.diff(labels, axis=a) != 0).sum() for a in range(3))
        return float(np.take_along_axis(data, labels[None], 0).sum() + faces)

    def costs():
        m, s = (v[:, None, None, None] for v in (mean, deviation))
        return (image - m) ** 2 / (2 * s**2) + np.log(s)

    data = costs()
    labels = data.argmin(0)
    counts = lambda: np.bincount(labels.ravel(), minlength=3).tolist()  # noqa: E731
    found = {"start": {"energy": energy(data, labels), "voxels": counts()}}
    for cycle in range(1, 11):
        data, sweeps = costs(), 0
        for sweeps in range(1, 21):
            before = labels.copy()
            for colour in range(2):
                best = (data + neighbours(labels)).argmin(0)
                labels = np.where((x + y + z) % 2 == colour, best, labels)
            if (before == labels).all():
                break
        weights = np.exp(-data - neighbours(labels))
        weights /= weights.sum(0)
        entry = {"energy": energy(data, labels), "voxels": counts(), "wrong": int((labels != truth).sum()), "sweeps": sweeps}
        mean = np.array([(w * image).sum() / w.sum() for w in weights])
        deviation = np.sqrt([(w * (image - m) ** 2).sum() / w.sum() for w, m in zip(weights, mean)])
        if cycle in (1, 10):
            entry |= {"means": mean.tolist(), "deviations": deviation.tolist(), "posterior": weights[:, 3, 4, 3].tolist()}
            found[str(cycle)] = entry
    return found


def gradient_vector_flow(mu=0.2):
    """The equations of the flow as one sparse system, solved directly."""
    shape, spacing = (8, 7, 6), (1, 1, 2)
    x, y, z = places(shape)
    r = np.sqrt((x - 3) ** 2 + (y - 3) ** 2 + 4.0 * (z - 2) ** 2)
    f = np.exp(-((r - 2) ** 2))
    slopes = [difference(f, a, spacing) for a in range(3)]
    pull = sum(d**2 for d in slopes)
    number = np.arange(f.size).reshape(shape)
    system = diags_array(pull.ravel()).tocsr()
    for a in range(3):
        low, high = (number[tuple(part if b == a else slice(None) for b in range(3))].ravel() for part in (slice(None, -1), slice(1, None)))
        weight = np.full(low.size, mu / spacing[a] ** 2)
        for i, j in ((low, high), (high, low)):
            system = system + csr_array((weight, (i, i)), shape=system.shape) - csr_array((weight, (i, j)), shape=system.shape)
    fields = [spsolve(system.tocsc(), (pull * d).ravel()).reshape(shape) for d in slopes]
    points = ((0, 0, 0), (5, 3, 2), (6, 1, 4), (7, 6, 5), (3, 3, 2))
    values = [[float(v[p]) for v in fields] for p in points]
    return {"points": points, "values": values, "squares": float(sum((v**2).sum() for v in fields))}


def relaxation():
    """One implicit step of a ring of points and of an icosahedron, by dense matrices."""
    t = 2 * np.pi * np.arange(16) / 16
    ring = np.stack([10 + 5 * np.cos(t), 8 + 3 * np.sin(t) + 0.5 * np.cos(3 * t), 0 * t], 1)
    laplacian_ = 2 * np.eye(16) - np.roll(np.eye(16), 1, 0) - np.roll(np.eye(16), -1, 0)
    matrix = 0.2 * laplacian_ + 0.1 * laplacian_ @ laplacian_ + 0.5 * np.eye(16)
    once = np.linalg.solve(matrix, 0.5 * ring)
    often = ring
    for _ in range(10):
        often = np.linalg.solve(matrix, 0.5 * often)
    eigenvalue = (5 - np.sqrt(5)) / 6
    return {"ring": once.tolist(), "ring after ten": often.tolist(), "icosahedron": 1 / (1 + 0.3 * (0.4 * eigenvalue + 0.2 * eigenvalue**2))}


def surface_nets(shape, spacing, centre, radius=10.0):
    """Vertices, triangles, Euler characteristic, volume and area of the surface around a ball."""
    x, y, z = [p.astype(float) for p in places(shape)]
    r = np.sqrt(sum(((p - c) * s) ** 2 for p, c, s in zip((x, y, z), centre, spacing)))
    phi = np.pad(r - radius, 1, constant_values=1.0)
    inside = phi < 0
    vertices, number = [], {}
    for cell in itertools.product(*(range(n - 1) for n in phi.shape)):
        crossings = []
        for axis in range(3):
            for offset in itertools.product((0, 1), repeat=2):
                low = np.array(cell) + np.insert(offset, axis, 0)
                high = low + np.eye(3, dtype=int)[axis]
                p, q = phi[tuple(low)], phi[tuple(high)]
                if (p < 0) != (q < 0):
                    crossings.append(low + np.eye(3)[axis] * p / (p - q))
        if crossings:
            number[cell] = len(vertices)
            vertices.append((np.mean(crossings, 0) - 1) * spacing)
    triangles = []
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        for place in np.argwhere(np.diff(inside.astype(int), axis=axis)):
            corners = []
            for u, v in ((0, 0), (-1, 0), (-1, -1), (0, -1)):
                cell = place.copy()
                cell[b] += u
                cell[c] += v
                corners.append(number[tuple(int(n) for n in cell)])
            pair = [(corners[0], corners[1], corners[3]), (corners[1], corners[2], corners[3])]
            triangles += pair if inside[tuple(place)] else [t[::-1] for t in pair]
    v, t = np.array(vertices), np.array(triangles)
    edges = {tuple(sorted(e)) for a, b, c in triangles for e in ((a, b), (b, c), (c, a))}
    normals = np.cross(v[t[:, 1]] - v[t[:, 0]], v[t[:, 2]] - v[t[:, 0]])
    enclosed = float((v[t[:, 0]] * normals).sum() / 6)
    return {"vertices": len(v), "triangles": len(t), "euler": len(v) - len(edges) + len(t), "volume": enclosed, "area": float(np.linalg.norm(normals, axis=1).sum() / 2)}


def main():
    values = {
        "textbook_flow": textbook_flow(),
        "expansion": expansion(),
        "cut": grid_cut((24, 22, 20), (11, 10, 9), 2, 7, 2, (800, 800, 400)),
        "large_cut": grid_cut((128, 128, 128), (63.5, 63.5, 63.5), 1, 35, 6, (800, 800, 800)),
        "level_set": level_set((1, 1, 1), 100, 0.5, -0.75, (1, 10, 200)),
        "level_set_thick": level_set((1, 1, 2), 100, 0.5, -0.75, (1, 10, 200)),
        "level_set_leak": level_set((1, 1, 1), 100, 0.5, -1.0, (200,)),
        "level_set_collapse": level_set((1, 1, 1), 25, 2.0, -1.0, (100,)),
        "chan_vese_flat": chan_vese_flat(),
        "chan_vese_solid": chan_vese_solid(),
        "markov": markov(),
        "flow": gradient_vector_flow(),
        "relaxation": relaxation(),
        "nets": surface_nets((25, 25, 25), (1, 1, 1), (12, 12, 12)),
        "nets_thick": surface_nets((25, 25, 15), (1, 1, 2), (12, 12, 7)),
    }
    (DATA / "classical_energy.json").write_text(json.dumps(values) + "\n")


if __name__ == "__main__":
    main()
