//! The kernels of the CPU, on slices.

#[cfg(target_arch = "x86_64")]
mod amx;
pub(crate) mod bf16;
pub(crate) mod buffer;
pub(crate) mod channels;
pub(crate) mod convolution;
mod correlate;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod resample;
mod simd;
pub(crate) mod tile;
mod transpose;
mod winograd;

use crate::Path;

/// Runs a loop compiled for the instructions of `path`: the compiler vectorises one text for each. It may not fuse
/// multiplications with additions, so that the results are the same bit for bit.
#[inline(always)]
fn vectorise<R>(path: Path, work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        unsafe fn avx512<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        match path {
            // SAFETY: a path is only selected where the processor has its instructions.
            Path::Avx512 => return unsafe { avx512(work) },
            // SAFETY: as above.
            Path::Avx2 => return unsafe { avx2(work) },
            Path::Stock | Path::Portable => {}
        }
    }
    let _ = path;
    work()
}
