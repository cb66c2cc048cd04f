"""Makes tests/data/nifti: small files written by nibabel (and some that it would not write), and what nibabel
reads from them. Run: python tests/reference/make_nifti.py"""

import gzip
import json
import logging
import struct
import warnings
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

OUT = Path(__file__).resolve().parent.parent / "data" / "nifti"
SHAPE = (3, 4, 2)
AFFINE = np.array([[-0.8, 0.1, 0.0, 12.5], [0.1, 0.8, 0.0, -30.25], [0.0, 0.0, 2.5, 7.0], [0, 0, 0, 1.0]])
TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
expected = {}

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)


def values(dtype, shape=SHAPE):
    """Numbers that use the whole range of a type, the ends included."""
    count = int(np.prod(shape))
    rng = np.random.default_rng(7)
    if np.dtype(dtype).kind == "f":
        data = rng.normal(0, 1000, count).astype(dtype)
        data[:3] = [0.1, -0.0, 1e30]
    else:
        info = np.iinfo(dtype)
        data = rng.integers(info.min, info.max, count, dtype=dtype, endpoint=True)
        data[:3] = [info.min, info.max, 1]
    return data.reshape(shape, order="F")


def image(data, version=1, order="<", affine=AFFINE, slope=None, inter=None, edit=None):
    """Bytes of a single file. `edit` changes the header last."""
    klass = {1: nib.Nifti1Image, 2: nib.Nifti2Image}[version]
    header = klass.header_class(endianness=order)
    header.set_data_dtype(data.dtype)
    picture = klass(data, affine, header)
    picture.set_qform(affine, 1)
    picture.set_sform(affine, 1)
    blob = bytearray(picture.to_bytes())
    header = klass.header_class.from_fileobj(__import__("io").BytesIO(bytes(blob)))
    if slope is not None:
        header["scl_slope"] = slope
        header["scl_inter"] = inter
    if edit is not None:
        edit(header)
    size = len(header.binaryblock)
    blob[:size] = header.binaryblock
    return bytes(blob)


def plain(value):
    value = float(value)
    return value if np.isfinite(value) else str(value)


def store(name, blob, error=None, warning=None, pair=None, note=None):
    """Writes a file, and what has to come out: nibabel's voxels and affine, or the field an error must name."""
    path = OUT / name
    path.write_bytes(blob)
    if pair is not None:
        (OUT / pair[0]).write_bytes(pair[1])
    entry = {}
    if error is None:
        picture = nib.load(path)
        data = np.asanyarray(picture.dataobj, dtype=np.float32)
        entry["dims"] = list(data.shape)
        entry["affine"] = [[float(v) for v in row] for row in picture.affine[:3]]
        entry["voxels"] = [plain(v) for v in data.ravel(order="F")]
    else:
        entry["error"] = error
    if warning is not None:
        entry["warning"] = warning
    if note is not None:
        entry["note"] = note
    expected[name] = entry


def setting(**fields):
    def edit(header):
        for name, value in fields.items():
            header[name] = value
    return edit


def element(name, index, value):
    def edit(header):
        header[name][index] = value
    return edit


def members(blob, cuts):
    """Gzip with several members, as bgzip writes it."""
    edges = [0, *cuts, len(blob)]
    return b"".join(gzip.compress(blob[a:b], mtime=0) for a, b in zip(edges, edges[1:]))


OUT.mkdir(parents=True, exist_ok=True)
for old in OUT.glob("*.*"):
    if old.name.split(".", 1)[1] in ("nii", "nii.gz", "hdr", "img", "hdr.gz", "img.gz"):
        old.unlink()

# Every number type in both versions and byte orders, plain and compressed.
for dtype in TYPES:
    store(f"v1-little-{dtype}.nii", image(values(dtype)))
    store(f"v1-big-{dtype}.nii.gz", gzip.compress(image(values(dtype), order=">"), mtime=0))
    store(f"v2-little-{dtype}.nii.gz", gzip.compress(image(values(dtype), version=2), mtime=0))
    store(f"v2-big-{dtype}.nii", image(values(dtype), version=2, order=">"))
    store(f"scaled-{dtype}.nii", image(values(dtype), slope=0.37, inter=-12.25))
store("scaled-v2-big-i2.nii", image(values("i2"), version=2, order=">", slope=1 / 3, inter=0.1))
store("slope-only.nii", image(values("f4"), slope=2.0, inter=0.0))

f4 = values("f4")
i2 = values("i2")

# Scaling that means none, and one that means nothing.
store("slope-zero.nii", image(i2, slope=0, inter=0))
store("slope-zero-inter-5.nii", image(i2, slope=0, inter=5), warning="scl_inter 5 is not applied")
store("slope-nan.nii", image(i2, slope=np.nan, inter=np.nan))
store("slope-nan-inter-5.nii", image(i2, slope=np.nan, inter=5), warning="scl_inter 5 is not applied")
store("slope-inf.nii", image(i2, slope=np.inf, inter=0), warning="scl_slope is inf")
store("inter-nan.nii", image(i2, slope=2, inter=np.nan), error="scl_inter")

# Geometry.
moved = AFFINE.copy()
moved[:3, 3] += [3, 0, 4]


def forms(sform=None, qform=None, **fields):
    def edit(header):
        header.set_sform(AFFINE if sform is None else sform, 1)
        header.set_qform(AFFINE if qform is None else qform, 1)
        setting(**fields)(header)
    return edit


store("forms-disagree.nii", image(f4, edit=forms(qform=moved)), warning="disagree by 5.000 mm")
store("qform-only.nii", image(f4, edit=setting(sform_code=0)))
store("qform-only-big.nii", image(f4, order=">", edit=setting(sform_code=0)))
store("qform-only-v2.nii", image(f4, version=2, edit=setting(sform_code=0)))
store("no-form.nii", image(f4, edit=setting(sform_code=0, qform_code=0)), warning="neither sform nor qform")
left = AFFINE.copy()
left[:3, 2] *= -1
store("qfac-minus.nii", image(f4, affine=left, edit=setting(sform_code=0)))
turned = np.diag([-2.0, -3.0, 4.0, 1.0])
store("qform-half-turn.nii", image(f4, affine=turned, edit=setting(sform_code=0)))


def qfac(value, sform_code=0):
    def edit(header):
        header["sform_code"] = sform_code
        header["pixdim"][0] = value
    return edit


store("qfac-zero.nii", image(f4, edit=qfac(0)))
store("qfac-minus-two.nii", image(f4, edit=qfac(-2)), error="pixdim[0]")
store("qfac-nan.nii", image(f4, edit=qfac(np.nan)), error="pixdim[0]")


def quaternion(b, c, d, sform_code=0):
    return setting(sform_code=sform_code, quatern_b=b, quatern_c=c, quatern_d=d)


# nibabel refuses a quaternion longer than 1; the NIfTI C library, as we do, scales it to 1: a half turn.
store("quaternion-long.nii", image(f4, affine=turned, edit=quaternion(0, 0, 1.25)), error="", warning="length 1.250000")
expected["quaternion-long.nii"] = {
    "dims": list(SHAPE), "affine": turned[:3].tolist(),
    "voxels": [plain(v) for v in f4.ravel(order="F")], "warning": "length 1.250000",
}
store("quaternion-nan.nii", image(f4, edit=quaternion(np.nan, 0, 0)), error="quatern_b")


def with_pixdim(index, value, sform_code):
    def edit(header):
        header["sform_code"] = sform_code
        header["pixdim"][index] = value
    return edit


store("pixdim-negative-qform.nii", image(f4, edit=with_pixdim(2, -0.8, 0)), error="pixdim[2]")
store("pixdim-zero-qform.nii", image(f4, edit=with_pixdim(3, 0, 0)), error="pixdim[3]")
store("pixdim-nan-qform.nii", image(f4, edit=with_pixdim(1, np.nan, 0)), error="pixdim[1]")


def no_form_pixdim(header):
    header["sform_code"] = header["qform_code"] = 0
    header["pixdim"][1] = 0


store("pixdim-zero-no-form.nii", image(f4, edit=no_form_pixdim), error="pixdim[1]")
store("pixdim-zero-sform.nii", image(f4, edit=with_pixdim(3, 0, 1)), warning="qform is not valid (pixdim[3]")
store("pixdim-other.nii", image(f4, edit=with_pixdim(3, 5, 1)), warning="pixdim says")
sheared = AFFINE.copy()
sheared[0, 1] += 0.3
store("sheared.nii", image(f4, edit=forms(sform=sheared, qform_code=0)), warning="sheared")
store("sform-nan.nii", image(f4, edit=element("srow_x", 1, np.nan)), error="srow_x")
store("sform-zero.nii", image(f4, edit=setting(srow_x=0, srow_y=0, srow_z=0)), error="srow_x")
store("sform-flat.nii", image(f4, edit=setting(srow_z=[-0.8, 0.1, 0, 1])), error="srow_x")
store("offset-inf.nii", image(f4, edit=setting(sform_code=0, qoffset_y=np.inf)), error="qoffset_x")
store("sform-code-9.nii", image(f4, edit=setting(sform_code=9)), error="sform_code")
store("qform-code-minus.nii", image(f4, edit=setting(qform_code=-1)), error="qform_code")
store("micrometres.nii", image(f4, edit=setting(xyzt_units=3)), warning="micrometres")

# Dimensions.
store("one-volume-4d.nii", image(values("f4", (3, 4, 2, 1))))
store("one-volume-7d.nii", image(values("f4", (3, 4, 2, 1, 1, 1, 1))))
store("channels.nii.gz", gzip.compress(image(values("i2", (3, 4, 2, 3)), slope=0.5, inter=1), mtime=0))
store("channels-5d.nii", image(values("f4", (3, 4, 2, 1, 3))))
store("two-more-axes.nii", image(values("f4", (3, 4, 2, 2, 3))), error="dim")
store("one-slice.nii", image(values("f4", (5, 4))))
store("one-slice-no-spacing.nii", image(values("f4", (5, 4)), edit=with_pixdim(3, 0, 0)))
store("dim0-zero.nii", image(f4, edit=element("dim", 0, 0)), error="dim[0]")
store("dim0-eight.nii", image(f4, edit=element("dim", 0, 8)), error="dim[0]")
store("dim-zero.nii", image(f4, edit=element("dim", 2, 0)), error="dim[2]")
store("dim-negative.nii", image(f4, edit=element("dim", 3, -2)), error="dim[3]")
store("dim-beyond-file.nii", image(f4, edit=element("dim", 3, 3)), error="dim")
store("dim-beyond-file.nii.gz", gzip.compress(image(f4, edit=element("dim", 3, 3)), mtime=0), error="voxels")
store("dim-18-gigabytes.nii", image(f4, edit=setting(dim=[3, 1650, 1650, 1650, 1, 1, 1, 1])), error="dim")
store("dim-18-gigabytes.nii.gz", gzip.compress(image(f4, edit=setting(dim=[3, 1650, 1650, 1650, 1, 1, 1, 1])), mtime=0), error="dim")
store("dim-overflow.nii", image(f4, version=2, edit=setting(dim=[3, 2**62, 2**62, 2**62, 1, 1, 1, 1])), error="dim")
store("dim-overflow-7d.nii", image(f4, edit=setting(dim=[7] + [32767] * 7)), error="dim")

# Where voxels begin.
base = image(f4)


def offset(value, version=1, dtype="f4"):
    return image(values(dtype), version=version, edit=setting(vox_offset=value))


def shifted(blob, gap):
    """Moves the voxels back without an extension that would explain the gap."""
    changed = bytearray(blob)
    struct.pack_into("<f", changed, 108, 352 + gap)
    return bytes(changed[:352]) + b"\x55" * gap + bytes(changed[352:])


store("offset-nan.nii", offset(np.nan), error="vox_offset")
store("offset-inf.nii.gz", gzip.compress(offset(np.inf), mtime=0), error="vox_offset")
store("offset-zero.nii", offset(0), error="vox_offset", note="nibabel reads the header as voxels")
store("offset-348.nii", offset(348), error="vox_offset")
store("offset-negative.nii", offset(-16), error="vox_offset")
store("offset-half.nii", offset(352.5), error="vox_offset")
store("offset-beyond-file.nii", offset(100000), error="vox_offset")
store("offset-v2-352.nii", offset(352, version=2), error="vox_offset")
store("offset-gap.nii", shifted(base, 48))
store("offset-gap.nii.gz", gzip.compress(shifted(base, 33), mtime=0))

extended = nib.Nifti1Image(f4, AFFINE)
extended.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"a comment that is kept"))
extended.header.extensions.append(nib.nifti1.Nifti1Extension(4, b"<AFNI_attributes/>"))
extended = extended.to_bytes()
store("extensions.nii", extended)
store("extensions.nii.gz", gzip.compress(extended, mtime=0))
lying = bytearray(extended)
struct.pack_into("<i", lying, 352, 1 << 20)
store("extension-too-long.nii", bytes(lying), error="extensions")
struct.pack_into("<i", lying, 352, -8)
store("extension-negative.nii", bytes(lying), error="extensions")

# Number types.
store("bitpix-wrong.nii", image(i2, edit=setting(bitpix=64)), warning="bitpix is 64")
rgb = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
store("rgb.nii", image(rgb), error="datatype")
store("complex.nii", image(f4.astype("c8")), error="datatype")
store("float128.nii", image(f4, edit=setting(datatype=1536, bitpix=128)), error="datatype")
store("binary.nii", image(f4, edit=setting(datatype=1)), error="datatype")
store("datatype-unknown.nii", image(f4, edit=setting(datatype=77)), error="datatype")

# Voxels.
special = f4.copy()
special.ravel(order="K")[:4] = [np.nan, np.inf, -np.inf, -0.0]
store("nan-inf.nii", image(special))
store("more-than-needed.nii", base + b"\x01" * 100, warning="100 bytes follow")
store("more-than-needed.nii.gz", gzip.compress(base + b"\x01" * 100, mtime=0), warning="100 bytes follow")
store("truncated.nii", base[:-1], error="dim")
store("header-only.nii", base[:348], error="vox_offset")
store("header-cut.nii", base[:200], error="header")

# Compression.
squeezed = gzip.compress(base, mtime=0)
store("members.nii.gz", members(base, [100, 350, 351, 400]))
store("members-empty.nii.gz", members(base, [352, 352, len(base)]))
store("gzip-zero-padding.nii.gz", squeezed + b"\0" * 512)
store("gzip-garbage.nii.gz", squeezed + b"\0\0garbage", error="gzip stream")
store("gzip-truncated.nii.gz", squeezed[:-30], error="gzip stream")
store("gzip-no-trailer.nii.gz", squeezed[:-8], error="gzip stream")
store("gzip-half-trailer.nii.gz", squeezed[:-3], error="gzip stream")
store("gzip-checksum.nii.gz", squeezed[:-8] + b"\x01\x02\x03\x04" + squeezed[-4:], error="gzip stream")
store("gzip-length.nii.gz", squeezed[:-4] + b"\x01\x00\x00\x00", error="gzip stream")
head = squeezed[:3] + bytes([0x1e]) + squeezed[4:10] + b"\x03\x00abc" + b"name.nii\0" + b"comment\0"
store("gzip-all-fields.nii.gz", head + struct.pack("<H", zlib.crc32(head) & 0xFFFF) + squeezed[10:])
store("gzip-header-checksum.nii.gz", head + b"\x12\x34" + squeezed[10:], error="gzip stream")
bomb = image(np.zeros(SHAPE, "u1")) + bytes(2 << 20)
store("gzip-bomb.nii.gz", gzip.compress(bomb, mtime=0), error="dim")

# Names do not decide. nibabel goes by the name, so the twins with the right names give the voxels.
for name, twin, blob in [("gzip-named-plain.nii", "members.nii.gz", squeezed), ("plain-named-gzip.nii.gz", "members.nii.gz", base)]:
    store(name, blob, error="")
    expected[name] = dict(expected[twin])

# Pairs.


def pair(data, version=1, order="<", gap=0, rest=b"\0\0\0\0"):
    blob = bytearray(image(data, version, order))
    size = {1: 348, 2: 540}[version]
    magic = {1: (344, b"ni1\0"), 2: (4, b"ni2\0\r\n\x1a\n")}[version]
    blob[magic[0]:magic[0] + len(magic[1])] = magic[1]
    place = {1: (108, order + "f"), 2: (168, order + "q")}[version]
    struct.pack_into(place[1], blob, place[0], gap)
    return bytes(blob[:size]) + rest, b"\x77" * gap + bytes(blob[size + 4:])


head, body = pair(i2)
store("pair.hdr", head, pair=("pair.img", body))
head, body = pair(f4, version=2, order=">", gap=32)
store("pair-v2.hdr.gz", gzip.compress(head, mtime=0), pair=("pair-v2.img.gz", gzip.compress(body, mtime=0)))
head, body = pair(f4, rest=extended[348:416])
store("pair-extensions.hdr", head, pair=("pair-extensions.img", body))
head, body = pair(f4, rest=b"")
store("pair-no-rest.hdr", head, pair=("pair-no-rest.img", body))
head, body = pair(f4)
store("pair-short.hdr", head, pair=("pair-short.img", body[:-1]), error="dim")
store("pair-alone.hdr", head, error="could not read")
head, body = pair(f4)
store("pair-not-gzip.hdr.gz", gzip.compress(head, mtime=0), pair=("pair-not-gzip.img.gz", body), error="gzip stream")
like_gzip = values("u1").copy()
like_gzip.ravel(order="K")[:3] = [0x1f, 0x8b, 8]
head, body = pair(like_gzip)
store("pair-like-gzip.hdr", head, pair=("pair-like-gzip.img", body))
head, body = pair(i2)
store("pair-gzip-named-plain.hdr", head, pair=("pair-gzip-named-plain.img", gzip.compress(body, mtime=0)), error="")
expected["pair-gzip-named-plain.hdr"] = dict(expected["pair.hdr"])
head, body = pair(f4)
store("pair-header-named-nii.nii", head + body, error="magic")

# Labels.
labels = (np.arange(24) % 3).astype("f4").reshape(SHAPE, order="F")
noisy = labels.copy()
noisy[noisy == 1] = 0.9999999
store("labels-noise.nii", image(noisy))
store("labels-scaled.nii", image((labels * 10).astype("i2"), slope=0.1, inter=0))
half = labels.copy()
half[1, 2, 1] = 1.5
half[2, 3, 1] = 2.25
store("labels-half.nii", image(half))
lost = labels.copy()
lost[0, 0, 1] = np.nan
store("labels-nan.nii", image(lost))
wide = labels.astype("i2")
wide[2, 0, 0] = 256
wide[0, 1, 0] = -1
store("labels-wide.nii", image(wide))
store("labels-i8.nii", image(labels.astype("i8")))

# Not NIfTI.
analyze = nib.AnalyzeImage(i2, np.eye(4))
analyze.to_filename(OUT / "analyze.hdr")
store("analyze.hdr", (OUT / "analyze.hdr").read_bytes(), error="content", warning="ANALYZE")
for name, blob, what in [
    ("dicom.nii", bytes(128) + b"DICM" + bytes(400), "DICOM"),
    ("nrrd.nii", b"NRRD0005\n# a comment\n" + bytes(400), "NRRD"),
    ("png.nii.gz", b"\x89PNG\r\n\x1a\n" + bytes(400), "PNG"),
    ("page.nii.gz", b"<!DOCTYPE html><html><body>Please log in</body></html>", "web page"),
    ("lfs.nii.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"),
    ("annex.nii.gz", b"/annex/objects/MD5E-s1--00.nii.gz\n", "git-annex"),
    ("meta.nii", b"ObjectType = Image\nNDims = 3\n", "MetaImage"),
    ("zip.nii", b"PK\x03\x04" + bytes(400), "ZIP"),
    ("zeros.nii", bytes(1000), "zeros"),
    ("empty.nii", b"", "empty"),
    ("text.nii", b"hello", "68 65 6c 6c"),
]:
    store(name, blob, error="content", warning=what)

newline = bytearray(image(f4, version=2))
newline[8:12] = b"\n\x1a\n\0"
store("text-mode-v2.nii", bytes(newline), error="magic")
store("sizeof-hdr.nii", image(f4, edit=setting(sizeof_hdr=350)), error="sizeof_hdr")

(OUT / "expected.json").write_text(
    "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in expected.items()) + "\n}\n")

# Many geometries: header bytes and nibabel's affine.
rng = np.random.default_rng(11)
cases = []
for number in range(72):
    version, order = 1 + number % 2, "<>"[number // 2 % 2]
    klass = {1: nib.Nifti1Header, 2: nib.Nifti2Header}[version]
    header = klass(endianness=order)
    header.set_data_shape(tuple(int(v) for v in rng.integers(1, 300, 3)))
    kind = number % 3
    quaternion_ = rng.normal(size=4)
    if number % 4 == 0:
        quaternion_[0] = 0  # a half turn
    quaternion_ /= np.linalg.norm(quaternion_)
    rotation = nib.quaternions.quat2mat(quaternion_)
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.2, 6, 3) * rng.choice([1, -1], 3)
    affine[:3, 3] = rng.normal(0, 100, 3)
    if kind == 0:
        affine[:3, :3] += rng.normal(0, 0.1, (3, 3))
        header.set_sform(affine, int(rng.integers(1, 6)))
        header["pixdim"][1:4] = 1
    elif kind == 1:
        header.set_qform(affine, int(rng.integers(1, 6)))
    else:
        header["pixdim"][1:4] = rng.uniform(0.2, 6, 3)
    header["vox_offset"] = klass.single_vox_offset
    try:
        best = header.get_best_affine()
    except ValueError:  # rounded to 32 bits, some half turns are longer than 1
        continue
    cases.append({"header": header.binaryblock.hex(), "affine": best[:3].tolist()})
(OUT / "geometry.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
# What nibabel writes into qform and pixdim for an affine, for the headers that we write.
cases = []
for number in range(32):
    shape = [int(v) for v in rng.integers(1, 9, 3)]
    rotation = np.eye(3)
    if number < 24:  # signed permutations, half turns among them
        rotation = np.eye(3)[:, list(rng.permutation(3))] * rng.choice([1, -1], 3)
    else:
        quaternion_ = rng.normal(size=4)
        rotation = nib.quaternions.quat2mat(quaternion_ / np.linalg.norm(quaternion_)) * rng.choice([1, -1], 3)
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.2, 6, 3)
    affine[:3, 3] = rng.normal(0, 100, 3)
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_qform(affine, 1)
    cases.append({
        "shape": shape, "affine": affine[:3].tolist(), "qform": header.get_qform()[:3].tolist(),
        "pixdim": [float(v) for v in header["pixdim"][:4]],
    })
(OUT / "written.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
print(len(expected), "files")
