//! Where the fields of a NIfTI header lie, for both versions and both byte orders.
//!
//! Offsets are those of `nifti1.h` (348 bytes) and `nifti2.h` (540 bytes).

/// The two versions of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 348-byte header, 16-bit dimensions, 32-bit reals.
    Nifti1,
    /// 540-byte header, 64-bit dimensions and reals.
    Nifti2,
}

/// Order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// The fields that are read or changed here; everything else is kept as it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    SizeofHdr,
    Dim,
    IntentCode,
    Datatype,
    Bitpix,
    Pixdim,
    VoxOffset,
    SclSlope,
    SclInter,
    CalMax,
    CalMin,
    XyztUnits,
    QformCode,
    SformCode,
    Quatern,
    Qoffset,
    Srow,
}

#[derive(Clone, Copy)]
enum Kind {
    U8,
    I16,
    I32,
    I64,
    F32,
    F64,
}

/// A header's bytes and how to read them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fields {
    pub(super) bytes: Vec<u8>,
    pub(super) version: Version,
    pub(super) order: ByteOrder,
}

impl Version {
    /// Length of the header in bytes.
    pub(super) fn header_size(self) -> usize {
        match self {
            Self::Nifti1 => 348,
            Self::Nifti2 => 540,
        }
    }

    /// Offset and length of the magic string.
    pub(super) fn magic_range(self) -> std::ops::Range<usize> {
        match self {
            Self::Nifti1 => 344..348,
            Self::Nifti2 => 4..12,
        }
    }
}

impl Field {
    fn place(self, version: Version) -> (usize, Kind) {
        use Kind::{F32, F64, I16, I32, I64, U8};
        let (first, second) = match self {
            Self::SizeofHdr => ((0, I32), (0, I32)),
            Self::Dim => ((40, I16), (16, I64)),
            Self::IntentCode => ((68, I16), (504, I32)),
            Self::Datatype => ((70, I16), (12, I16)),
            Self::Bitpix => ((72, I16), (14, I16)),
            Self::Pixdim => ((76, F32), (104, F64)),
            Self::VoxOffset => ((108, F32), (168, I64)),
            Self::SclSlope => ((112, F32), (176, F64)),
            Self::SclInter => ((116, F32), (184, F64)),
            Self::XyztUnits => ((123, U8), (500, I32)),
            Self::CalMax => ((124, F32), (192, F64)),
            Self::CalMin => ((128, F32), (200, F64)),
            Self::QformCode => ((252, I16), (344, I32)),
            Self::SformCode => ((254, I16), (348, I32)),
            Self::Quatern => ((256, F32), (352, F64)),
            Self::Qoffset => ((268, F32), (376, F64)),
            Self::Srow => ((280, F32), (400, F64)),
        };
        match version {
            Version::Nifti1 => first,
            Version::Nifti2 => second,
        }
    }
}

impl Fields {
    /// An all-zero header with its `sizeof_hdr`.
    pub(super) fn empty(version: Version, order: ByteOrder) -> Self {
        let mut fields = Self { bytes: vec![0; version.header_size()], version, order };
        fields.set_integer(Field::SizeofHdr, 0, version.header_size() as i64);
        fields
    }

    /// The `index`-th number of a field that holds whole numbers.
    pub(super) fn integer(&self, field: Field, index: usize) -> i64 {
        let (offset, kind) = field.place(self.version);
        match kind {
            Kind::U8 => i64::from(self.bytes[offset + index]),
            Kind::I16 => i64::from(i16::from_le_bytes(self.number(offset, index))),
            Kind::I32 => i64::from(i32::from_le_bytes(self.number(offset, index))),
            Kind::I64 => i64::from_le_bytes(self.number(offset, index)),
            Kind::F32 | Kind::F64 => unreachable!("a real field read as a whole number"),
        }
    }

    /// The `index`-th number of a field that holds reals (or, in one of the versions, whole numbers).
    pub(super) fn real(&self, field: Field, index: usize) -> f64 {
        let (offset, kind) = field.place(self.version);
        match kind {
            Kind::F32 => f64::from(f32::from_le_bytes(self.number(offset, index))),
            Kind::F64 => f64::from_le_bytes(self.number(offset, index)),
            _ => self.integer(field, index) as f64,
        }
    }

    /// Three consecutive reals, from the `first`-th on.
    pub(super) fn triple(&self, field: Field, first: usize) -> [f64; 3] {
        std::array::from_fn(|axis| self.real(field, first + axis))
    }

    pub(super) fn set_integer(&mut self, field: Field, index: usize, value: i64) {
        let (offset, kind) = field.place(self.version);
        match kind {
            Kind::U8 => self.bytes[offset + index] = value as u8,
            Kind::I16 => self.set_number(offset, index, (value as i16).to_le_bytes()),
            Kind::I32 => self.set_number(offset, index, (value as i32).to_le_bytes()),
            Kind::I64 => self.set_number(offset, index, value.to_le_bytes()),
            Kind::F32 | Kind::F64 => self.set_real(field, index, value as f64),
        }
    }

    pub(super) fn set_real(&mut self, field: Field, index: usize, value: f64) {
        let (offset, kind) = field.place(self.version);
        match kind {
            Kind::F32 => self.set_number(offset, index, (value as f32).to_le_bytes()),
            Kind::F64 => self.set_number(offset, index, value.to_le_bytes()),
            _ => self.set_integer(field, index, value as i64),
        }
    }

    fn number<const N: usize>(&self, offset: usize, index: usize) -> [u8; N] {
        let mut number = [0; N];
        number.copy_from_slice(&self.bytes[offset + index * N..][..N]);
        if self.order == ByteOrder::Big {
            number.reverse();
        }
        number
    }

    fn set_number<const N: usize>(&mut self, offset: usize, index: usize, mut number: [u8; N]) {
        if self.order == ByteOrder::Big {
            number.reverse();
        }
        self.bytes[offset + index * N..][..N].copy_from_slice(&number);
    }
}
