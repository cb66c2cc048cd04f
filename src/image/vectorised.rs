//! Loops compiled for the widest vectors that the processor has, chosen at run time.

/// Runs `work` compiled for the processor's vector instructions.
///
/// Only what is inlined into `work` is compiled so: mark the closure and the functions that its loops call
/// `#[inline(always)]`, and let the closure `move` the numbers it needs, since numbers behind a reference are read
/// again for every voxel. The bound is `FnMut` because the shim that calls a closure once is not inlined.
/// Rust never contracts or reorders floating-point operations, so results do not depend on the choice.
#[inline(always)]
pub(crate) fn vectorised<R>(work: impl FnMut() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnMut() -> R> pulp::NullaryFnOnce for Work<F> {
        type Output = R;

        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Work(work))
}

/// `out = below + (above - below) * w`, voxel by voxel.
#[inline(always)]
pub(crate) fn lerp(out: &mut [f32], below: &[f32], above: &[f32], w: f32) {
    for (out, (below, above)) in out.iter_mut().zip(below.iter().zip(above)) {
        *out = below + (above - below) * w;
    }
}
