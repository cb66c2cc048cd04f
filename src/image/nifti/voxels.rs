//! From stored numbers to voxels: every NIfTI number type, both byte orders, scaled or not, in one pass.

use std::path::Path;

use super::layout::ByteOrder;
use super::stream::Stream;
use crate::{Error, Result};

/// How a voxel is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Datatype {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

/// Stored numbers become `slope * number + intercept`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scaling {
    pub(super) slope: f64,
    pub(super) intercept: f64,
}

impl Datatype {
    /// The type of a NIfTI `datatype` code, or what it is instead and what to do about it.
    pub(super) fn from_code(code: i64) -> std::result::Result<Self, (&'static str, &'static str)> {
        const PLANES: &str = "store each part as a volume of its own";
        Ok(match code {
            2 => Self::U8,
            4 => Self::I16,
            8 => Self::I32,
            16 => Self::F32,
            64 => Self::F64,
            256 => Self::I8,
            512 => Self::U16,
            768 => Self::U32,
            1024 => Self::I64,
            1280 => Self::U64,
            1 => return Err(("means one bit per voxel", "store the mask with 8 bits per voxel")),
            1536 => {
                return Err(("means 128-bit floating point", "store the volume as 64-bit floating point"));
            }
            32 | 1792 | 2048 => return Err(("means complex numbers", PLANES)),
            128 | 2304 => return Err(("means colours (RGB)", PLANES)),
            _ => return Err(("is not a NIfTI datatype", super::header::DAMAGED)),
        })
    }

    /// The NIfTI `datatype` code.
    pub(super) fn code(self) -> i64 {
        match self {
            Self::U8 => 2,
            Self::I16 => 4,
            Self::I32 => 8,
            Self::F32 => 16,
            Self::F64 => 64,
            Self::I8 => 256,
            Self::U16 => 512,
            Self::U32 => 768,
            Self::I64 => 1024,
            Self::U64 => 1280,
        }
    }

    /// Bytes per voxel.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// The next `count` stored numbers of a file and what they mean.
pub(super) struct Stored<'a> {
    pub(super) path: &'a Path,
    pub(super) stream: &'a mut Stream,
    pub(super) count: usize,
    pub(super) datatype: Datatype,
    pub(super) order: ByteOrder,
    pub(super) scaling: Option<Scaling>,
}

/// Bytes that are converted at once: they stay in the first-level cache.
const CHUNK: usize = 16 * 1024;

/// Evaluates an expression with `$number` standing for the stored type.
macro_rules! for_datatype {
    ($datatype:expr, $number:ident => $body:expr) => {
        for_datatype!($datatype, $number => $body;
            U8 u8, I8 i8, U16 u16, I16 i16, U32 u32, I32 i32, U64 u64, I64 i64, F32 f32, F64 f64)
    };
    ($datatype:expr, $number:ident => $body:expr; $($name:ident $type:ident),*) => {
        match $datatype {
            $(Datatype::$name => {
                type $number = $type;
                $body
            })*
        }
    };
}

impl Stored<'_> {
    /// Scaled intensities. Scaling is done in `f64` and rounded once, as nibabel does; 64-bit whole numbers go
    /// through `f64` as well.
    pub(super) fn intensities(mut self) -> Result<Vec<f32>> {
        match self.scaling {
            None if self.is_native(Datatype::F32) => self.native(),
            None => for_datatype!(self.datatype, N => self.convert::<N, f32>(N::single)),
            Some(Scaling { slope, intercept }) => {
                // Adding -0 changes no number at all; adding 0 would turn -0 into 0.
                let intercept = if intercept == 0.0 { -0.0 } else { intercept };
                for_datatype!(self.datatype, N => {
                    self.convert::<N, f32>(|stored| (slope * stored.double() + intercept) as f32)
                })
            }
        }
    }

    /// Labels, or as the inner result an error about values that are not; `shape` tells where those lie.
    pub(super) fn labels(mut self, shape: [usize; 3]) -> Result<Result<Vec<u8>>> {
        if self.datatype == Datatype::U8 && self.scaling.is_none() {
            return self.native().map(Ok);
        }
        let Scaling { slope, intercept } = self.scaling.unwrap_or(Scaling { slope: 1.0, intercept: 0.0 });
        let (mut index, mut wrong, mut first) = (0, 0_usize, None);
        let mut codes = 0_usize;
        let mut label = |value: f64| {
            // A NaN fails the comparison as well.
            let whole = value.round();
            let is_whole = (value - whole).abs() <= ROUNDING;
            if !is_whole || !(0.0..=255.0).contains(&whole) {
                wrong += 1;
                codes += usize::from(is_whole && (255.0..=HIGHEST_CODE).contains(&whole));
                first = first.or(Some((index, value)));
            }
            index += 1;
            whole as u8
        };
        let labels = for_datatype!(self.datatype, N => {
            self.convert::<N, u8>(|stored| label(slope * stored.double() + intercept))?
        });
        let Some((index, value)) = first else { return Ok(Ok(labels)) };
        let position = [index % shape[0], index / shape[0] % shape[1], index / shape[0] / shape[1]];
        let what = if codes == wrong { "above 255" } else { "not whole numbers from 0 to 255" };
        let problem =
            format!("{wrong} of {} are {what}; the first is {value} at voxel {position:?}", self.count);
        let fix = match codes == wrong {
            true => "number the classes 0, 1, 2, ... without gaps: label values go up to 255",
            false => {
                "give a segmentation (was it resampled with interpolation, or is it a probability map or an image?)"
            }
        };
        Ok(Err(Error::invalid(self.path, "label values", problem, fix)))
    }

    /// Whether the stored bytes are this machine's bytes of the type.
    fn is_native(&self, datatype: Datatype) -> bool {
        let native = if cfg!(target_endian = "little") { ByteOrder::Little } else { ByteOrder::Big };
        self.datatype == datatype && (self.order == native || datatype.size() == 1)
    }

    /// Reads straight into the result.
    fn native<T: bytemuck::Pod>(&mut self) -> Result<Vec<T>> {
        let mut values = Vec::new();
        while values.len() < self.count {
            let start = values.len();
            let end = self.grown(&values);
            values.reserve_exact(end - start);
            values.resize(end, T::zeroed());
            self.fill(bytemuck::cast_slice_mut(&mut values[start..]), start)?;
        }
        Ok(values)
    }

    /// Reads through a small buffer and converts each number once.
    fn convert<N: Number, T>(&mut self, mut map: impl FnMut(N) -> T) -> Result<Vec<T>> {
        let mut values = Vec::new();
        let mut buffer = vec![0; CHUNK.min(self.count * N::SIZE)];
        while values.len() < self.count {
            let start = values.len();
            if start == values.capacity() {
                values.reserve_exact(self.grown(&values) - start);
            }
            let numbers = (values.capacity() - start).min(self.count - start).min(CHUNK / N::SIZE);
            let bytes = &mut buffer[..numbers * N::SIZE];
            self.fill(bytes, start)?;
            let numbers = bytes.chunks_exact(N::SIZE);
            match self.order {
                ByteOrder::Little => values.extend(numbers.map(|bytes| map(N::little(bytes)))),
                ByteOrder::Big => values.extend(numbers.map(|bytes| map(N::big(bytes)))),
            }
        }
        Ok(values)
    }

    /// The next length of the result: all of it where the file is known to hold it or probably does, otherwise
    /// twice what has arrived, so that a header cannot make us allocate.
    fn grown<T>(&self, values: &[T]) -> usize {
        let first =
            usize::try_from(self.stream.worth_allocating()).unwrap_or(usize::MAX) / self.datatype.size();
        self.count.min(first.max(2 * values.len()).max(CHUNK))
    }

    fn fill(&mut self, bytes: &mut [u8], start: usize) -> Result<()> {
        let read = self.stream.read(bytes)?;
        if read == bytes.len() {
            return Ok(());
        }
        let problem = format!("end after {} of {}", start + read / self.datatype.size(), self.count);
        Err(Error::invalid(self.path, "voxels", problem, super::header::TRUNCATED))
    }
}

/// Codes of atlases, which label values above 255 are, go no higher.
const HIGHEST_CODE: f64 = 1e6;

/// Labels that were stored with a scaling factor miss whole numbers by rounding.
const ROUNDING: f64 = 1e-3;

/// A stored number type.
trait Number: Copy {
    const SIZE: usize;
    fn little(bytes: &[u8]) -> Self;
    fn big(bytes: &[u8]) -> Self;
    fn single(self) -> f32;
    fn double(self) -> f64;
}

macro_rules! number {
    ($($type:ident)*) => {$(
        impl Number for $type {
            const SIZE: usize = size_of::<$type>();
            #[inline]
            fn little(bytes: &[u8]) -> Self {
                bytes.first_chunk().map_or($type::default(), |bytes| $type::from_le_bytes(*bytes))
            }
            #[inline]
            fn big(bytes: &[u8]) -> Self {
                bytes.first_chunk().map_or($type::default(), |bytes| $type::from_be_bytes(*bytes))
            }
            #[inline]
            fn single(self) -> f32 {
                if size_of::<$type>() == 8 { self as f64 as f32 } else { self as f32 }
            }
            #[inline]
            fn double(self) -> f64 {
                self as f64
            }
        }
    )*};
}

number!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);
