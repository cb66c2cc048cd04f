"""Times nibabel: python time_nibabel.py FOLDER [REPEATS] reads every .nii and .nii.gz of a folder as float32 on one
thread and prints milliseconds of processor time per pass. `examples/read_all.rs` does the same with segen."""

import glob
import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"
import nibabel as nib
import numpy as np

folder = sys.argv[1]
repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 5
files = sorted(glob.glob(folder + "/*.nii") + glob.glob(folder + "/*.nii.gz"))
for _ in range(repeats):
    start, wall = time.thread_time(), time.perf_counter()
    total = 0.0
    for file in files:
        array = np.asanyarray(nib.load(file).dataobj, dtype=np.float32)
        total += float(array[0, 0, 0])
    print(f"{(time.thread_time() - start) * 1e3:.1f} ms processor, {(time.perf_counter() - wall) * 1e3:.1f} ms wall, "
          f"{len(files)} files, {total:.0f}")
