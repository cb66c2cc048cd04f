"""Processor seconds of parts of the classical methods: ours and the opponents', in turns, one thread each on core 0.

    cargo bench --no-run --bench classical_energy
    taskset -c 0 python tests/reference/time_classical_energy.py target/release/deps/classical_energy-HASH --against 3

Needs NumPy, PyMaxflow 1.3.2 (GPL: it runs here and nowhere else), dipy 1.12.1 and scikit-image 0.26. Each part prints the
least time of both and their ratio. Memory is the largest that a process had.
"""

import argparse
import os
import subprocess
import sys
import time

os.environ |= {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
import numpy as np  # noqa: E402


def places(shape):
    return np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")


def volume(shape):
    """A hash of the place, in [0, 1)."""
    x, y, z = (p.astype(np.uint32) for p in places(shape))
    n = (x * np.uint32(73856093)) ^ (y * np.uint32(19349663)) ^ (z * np.uint32(83492791))
    n = (n ^ (n >> np.uint32(13))) * np.uint32(1274126177)
    return ((n ^ (n >> np.uint32(16))) % 65536) / 65536.0


def seconds_of(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def pymaxflow():
    """The cut of a noisy ball of 128^3 voxels, graph included."""
    import maxflow

    shape = (128, 128, 128)
    r = np.sqrt(sum((p - 63.5) ** 2 for p in places(shape)))
    q = np.clip(0.5 / (1 + np.exp((r - 35) / 6)) + 0.5 * volume(shape), 1e-4, 1 - 1e-4)
    d0, d1 = np.rint(-1000 * np.log(1 - q)).astype(np.int32), np.rint(-1000 * np.log(q)).astype(np.int32)
    structure = np.zeros((3, 3, 3), int)
    structure[2, 1, 1] = structure[1, 2, 1] = structure[1, 1, 2] = 1

    def cut():
        graph = maxflow.Graph[int](d0.size, 3 * d0.size)
        nodes = graph.add_grid_nodes(shape)
        graph.add_grid_edges(nodes, 800, structure=structure, symmetric=True)
        graph.add_grid_tedges(nodes, d1, d0)
        graph.maxflow()
        graph.get_grid_segments(nodes)

    return seconds_of(cut)


def dipy():
    """A cycle of its Markov random field on 64^3 voxels with three classes."""
    from dipy.segment.tissue import TissueClassifierHMRF

    x, y, z = places((64, 64, 64))
    image = np.where(x < 24, 20.0, np.where(y >= 32, 90.0, 50.0)) + 60 * (volume((64, 64, 64)) - 0.5)
    classify = lambda cycles: TissueClassifierHMRF(verbose=False).classify(image, 3, 0.2, tolerance=0, max_iter=cycles)  # noqa: E731
    few, many = (seconds_of(lambda n=n: classify(n)) for n in (2, 12))
    return (many - few) / 10


def skimage(shape):
    from skimage.segmentation import chan_vese, morphological_chan_vese

    inside = np.zeros(shape, bool)
    inside[tuple(slice(n // 4, 3 * n // 4) for n in shape)] = True
    image = (inside + 0.3 * volume((*shape, 1))[..., 0] if len(shape) == 2 else inside + 0.3 * volume(shape)) / 1.3
    if len(shape) == 3:
        few, many = (seconds_of(lambda n=n: morphological_chan_vese(image, n, "checkerboard")) for n in (1, 6))
        return (many - few) / 5
    few, many = (seconds_of(lambda n=n: chan_vese(image, 0.25, 1, 1, tol=0, max_num_iter=n)) for n in (1, 21))
    return (many - few) / 20


PARTS = {
    "cut": (pymaxflow, "PyMaxflow, 128^3", 1.0),
    "markov": (dipy, "dipy, a cycle of 64^3", 0.3),
    "flat": (lambda: skimage((256, 256)), "scikit-image, an iteration of 256^2", 0.2),
    "solid": (lambda: skimage((128, 128, 128)), "scikit-image's morphological, an iteration of 128^3", 0.1),
}


def child(command):
    """What a process of its own prints, and its largest memory in MB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command} failed")
    return float(text.split()[-1]), usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?", help="the bench `classical_energy`")
    parser.add_argument("--against", type=int, default=3, metavar="N", help="runs of each, in turns")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--opponent", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.opponent:
        print(PARTS[arguments.opponent][0]())
        return
    if arguments.program is None:
        parser.error("name the bench's program")
    for part in arguments.parts:
        _, name, bar = PARTS[part]
        ours, theirs = [], []
        for _ in range(arguments.against):
            ours.append(child([arguments.program, part]))
            theirs.append(child([sys.executable, __file__, "--opponent", part]))
        (own, own_memory), (other, memory) = (map(min, zip(*runs)) for runs in (ours, theirs))
        print(f"{part}: {own:.4f} s, {own_memory:.0f} MB; {name}: {other:.4f} s, {memory:.0f} MB; "
              f"ratio {own / other:.2f} (bar {bar}), of memory {own_memory / memory:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
