"""Makes tests/data/nifti/hostile.txt: what nibabel makes of damaged files.

Every input is a file of tests/data/nifti that is cut, overwritten, spliced, filled with noise, or whose header lies.
The damage depends on the input's number alone, and `tests/it/nifti/hostile.rs` does the same damage in Rust. A line
holds two checksums, of the voxels as float32 and of the affine as float32; `-` where nibabel gives none.

Run: python tests/reference/make_nifti_hostile.py [COUNT]"""

import gzip
import logging
import resource
import struct
import sys
import tempfile
import warnings
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

DATA = Path(__file__).resolve().parent.parent / "data" / "nifti"
MASK = 2**64 - 1

# Files, version and byte order. Of a pair the header comes first.
BASES = [
    (["scaled-i2.nii"], 1, "<"),
    (["v1-big-f4.nii.gz"], 1, ">"),
    (["v2-little-f4.nii.gz"], 2, "<"),
    (["v2-big-i2.nii"], 2, ">"),
    (["members.nii.gz"], 1, "<"),
    (["extensions.nii"], 1, "<"),
    (["v1-little-u1.nii"], 1, "<"),
    (["pair.hdr", "pair.img"], 1, "<"),
    (["pair-v2.hdr.gz", "pair-v2.img.gz"], 2, ">"),
    (["channels.nii.gz"], 1, "<"),
    (["qform-only.nii"], 1, "<"),
    (["no-form.nii"], 1, "<"),
]

# Offset, number type and count of the fields that a reader uses.
FIELDS = {
    1: [(0, "i", 1), (40, "h", 8), (70, "h", 1), (72, "h", 1), (76, "f", 8), (108, "f", 1), (112, "f", 1),
        (116, "f", 1), (252, "h", 1), (254, "h", 1), (256, "f", 3), (268, "f", 3), (280, "f", 12), (344, "i", 1)],
    2: [(0, "i", 1), (4, "i", 2), (12, "h", 1), (14, "h", 1), (16, "q", 8), (104, "d", 8), (168, "q", 1),
        (176, "d", 1), (184, "d", 1), (344, "i", 1), (348, "i", 1), (352, "d", 3), (376, "d", 3), (400, "d", 12)],
}
INTEGERS = [0, 1, -1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 64, 255, 256, 348, 352, 512, 540, 768, 1024, 1280, 32767,
            -32768, 65536, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63)]
REALS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -16.0, 352.0, 353.0, 352.5, 400.0, 544.0, 0.001, 1.25, 1e-30, 1e30, 1e300,
         float("nan"), float("inf"), float("-inf")]
SIZES = {"h": 2, "i": 4, "q": 8}


class Random:
    """SplitMix64."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % limit


def lie(content, random, version, order):
    for _ in range(1 + random.below(3)):
        offset, kind, count = FIELDS[version][random.below(len(FIELDS[version]))]
        index = random.below(count)
        if kind in SIZES:
            value = INTEGERS[random.below(len(INTEGERS))]
            size = SIZES[kind]
            number = (value % 2 ** (8 * size)).to_bytes(size, "little" if order == "<" else "big")
        else:
            number = np.array(REALS[random.below(len(REALS))]).astype(order + {"f": "f4", "d": "f8"}[kind]).tobytes()
        start = offset + index * len(number)
        content[start:start + len(number)] = number


def damage(number):
    """Name of the file to open and all files of input `number`."""
    random = Random(number)
    names, version, order = BASES[random.below(len(BASES))]
    files = [bytearray((DATA / name).read_bytes()) for name in names]
    kind = random.below(7)
    if kind in (1, 4):
        compressed = names[0].endswith(".gz")
        content = bytearray(gzip.decompress(files[0])) if compressed else files[0]
        if kind == 1:
            lie(content, random, version, order)
        else:
            for _ in range(1 + random.below(8)):
                content[random.below({1: 348, 2: 540}[version])] = random.below(256)
        files[0] = gzip.compress(bytes(content)) if compressed else content
        return dict(zip(names, files))
    part = random.below(len(files))
    file = files[part]
    if kind == 0:
        del file[random.below(len(file)):]
    elif kind == 2:
        for _ in range(1 + random.below(8)):
            position = random.below(len(file))
            file[position] ^= 1 + random.below(255)
    elif kind == 3:
        del file[[0, 3, 10, 352, 540][random.below(5)]:]
        for _ in range(random.below(1500)):
            file.append(random.below(256))
    elif kind == 5:
        start = random.below(len(file))
        end = min(len(file), start + 1 + random.below(64))
        action = random.below(3)
        if action == 0:
            del file[start:end]
        elif action == 1:
            file[end:end] = file[start:end]
        else:
            file[start:end] = bytes(end - start)
    else:
        noise = random.below(2)
        for _ in range(random.below(2000)):
            file.append(random.below(256) if noise else 0)
    return dict(zip(names, files))


def checksum(array):
    """Of float32 bytes in Fortran order; all NaN count as one."""
    array = np.asarray(array, dtype="<f4").ravel(order="F").copy()
    array[np.isnan(array)] = np.nan
    return f"{zlib.crc32(array.tobytes()):08x}"


def read(path):
    try:
        picture = nib.load(path)
        data = np.asanyarray(picture.dataobj, dtype=np.float32)
        # Adding 0 makes -0 and 0 one number.
        return checksum(data), checksum(picture.affine[:3].T + 0.0)  # row by row
    except Exception:
        pass
    # Where only the affine is to blame, the voxels can still be compared.
    for klass in (nib.Nifti1Pair, nib.Nifti1Image, nib.Nifti2Pair, nib.Nifti2Image):
        try:
            if not klass.path_maybe_image(str(path))[0]:
                continue
            files = klass.filespec_to_file_map(str(path))
            header_file = files.get("header", files["image"])
            with header_file.get_prepare_fileobj(mode="rb") as stream:
                header = klass.header_class.from_fileobj(stream)
            proxy = klass.ImageArrayProxy(files["image"].filename, header)
            return checksum(np.asanyarray(proxy, dtype=np.float32)), "-"
        except Exception:
            return "-", "-"
    return "-", "-"


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    np.seterr(all="ignore")
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            files = damage(number)
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            lines.append(" ".join(read(Path(folder) / next(iter(files)))))
    (DATA / "hostile.txt").write_text("\n".join(lines) + "\n")
    print(count, "inputs,", sum(line[0] != "-" for line in lines), "with voxels,",
          sum(line[0] != "-" and line[-1] == "-" for line in lines), "of them without affine")


main()
