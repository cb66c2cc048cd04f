//! What a file that is not NIfTI looks like, so that the message can say so.

/// A name for the content that begins with these bytes, and what to do about it.
pub(super) fn describe(start: &[u8]) -> (String, &'static str) {
    const CONVERT: &str = "convert it to NIfTI first";
    const FETCH: &str = "fetch the real file; this is only a pointer to it";
    let text = String::from_utf8_lossy(&start[..start.len().min(300)]).trim_start().to_lowercase();
    let begins = |magic: &[u8]| start.starts_with(magic);
    let (name, mend) = if start.is_empty() {
        ("the file is empty", "copy it again from its source")
    } else if start.get(128..132) == Some(b"DICM") {
        ("it looks like a DICOM file", "convert the series to NIfTI, for example with dcm2niix")
    } else if begins(b"NRRD") {
        ("it looks like an NRRD file", CONVERT)
    } else if text.starts_with("objecttype") || text.starts_with("ndims") {
        ("it looks like a MetaImage header", CONVERT)
    } else if begins(b"\x89PNG") || begins(b"\xff\xd8\xff") || begins(b"GIF8") || begins(b"BM") {
        ("it looks like a picture (PNG, JPEG, GIF or BMP)", "give the scan that the picture was made from")
    } else if begins(b"II*\0") || begins(b"MM\0*") {
        ("it looks like a TIFF file", CONVERT)
    } else if begins(b"\x89HDF") || begins(b"CDF\x01") {
        ("it looks like an HDF5, MINC or MATLAB file", CONVERT)
    } else if begins(b"\x93NUMPY") {
        ("it looks like a NumPy array", "store it as NIfTI; an array alone does not say where its voxels lie")
    } else if begins(b"PK\x03\x04") {
        ("it looks like a ZIP archive (or `.npz`)", "unpack it first")
    } else if begins(b"BZh") || begins(b"\xfd7zXZ") || begins(b"\x28\xb5\x2f\xfd") {
        ("it is compressed with bzip2, xz or zstd", "unpack it first; only gzip is read directly")
    } else if text.starts_with("version https://git-lfs") {
        ("it is a Git LFS pointer", FETCH)
    } else if text.contains("/annex/objects") {
        ("it is a git-annex pointer", FETCH)
    } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
        ("it is a web page", "the download went wrong (often a log-in page); download the file again")
    } else if text.starts_with("<?xml") {
        ("it is an XML file", CONVERT)
    } else if matches!(start.get(..4), Some([0x5c, 1, 0, 0] | [0, 0, 1, 0x5c])) {
        (
            "it looks like an ANALYZE 7.5 header, which does not say how the patient lies",
            "convert it to NIfTI with a tool that knows its orientation",
        )
    } else if start.iter().all(|byte| *byte == 0) {
        ("it begins with zeros only", "the file was probably not copied completely; copy it again")
    } else {
        let shown: Vec<String> = start.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        return (format!("it begins with the bytes {}", shown.join(" ")), "give a NIfTI file");
    };
    (name.to_owned(), mend)
}
