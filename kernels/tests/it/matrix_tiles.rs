//! Matrix tiles (AMX) beside others that use them on the same thread.

use std::arch::asm;

use segen_kernels::{Precision, Settings};

use crate::network::Network;
use crate::operator::Operator;
use crate::operators::small_network;
use crate::support::*;

/// How the tiles of a thread are configured, as the processor reads and writes it.
#[derive(Debug, PartialEq)]
#[repr(C, align(64))]
struct Shapes([u8; 64]);

/// Configures this thread's tiles as another library might: all of one row and one word.
fn configure_otherwise() {
    let mut shapes = Shapes([0; 64]);
    shapes.0[0] = 1;
    for tile in 0..8 {
        shapes.0[16 + 2 * tile] = 4;
        shapes.0[48 + tile] = 1;
    }
    // SAFETY: the processor has tiles, and the shapes are within their limits.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
}

/// How this thread's tiles are configured; zeros if they are not.
fn configured() -> Shapes {
    let mut shapes = Shapes([1; 64]);
    // SAFETY: the processor has tiles and writes the 64 bytes.
    unsafe { asm!("sttilecfg [{}]", in(reg) &raw mut shapes, options(nostack)) };
    shapes
}

#[test]
fn other_shapes_between_operators_change_nothing() {
    // One thread: the operators work on that of the test.
    let settings = Settings::current().with_precision(Precision::Bf16).with_threads(1);
    if !settings.arithmetic().contains("matrix tiles") {
        println!("skipped: this processor has no matrix tiles, or the system withholds them");
        return;
    }
    let mut random = Random::new(3);
    let (x, weight) = (random.tensor(&[1, 4, 4, 32, 32]), random.tensor(&[32, 32, 1, 1, 1]));
    // All products of this one have one shape, the first of the next time being the last of this.
    let operator = Operator::Conv3d { stride: [1; 3], padding: [0; 3] };
    let network = Network::of(operator, &[x, weight], &random.tensor(&[1, 4, 4, 32, 32]));
    let convolution = |before_backward: fn()| {
        let forward = network.forward();
        before_backward();
        forward.backward()
    };
    let small = small_network();
    settings.scoped(|| {
        let expected = (convolution(|| {}), small.run());
        assert_eq!(configured(), Shapes([0; 64]), "the tiles were not released");
        configure_otherwise();
        assert_ne!(configured(), Shapes([0; 64]));
        let results = (convolution(configure_otherwise), {
            configure_otherwise();
            small.run()
        });
        assert!(results == expected, "an operator relied on tiles that it had not configured");
        assert_eq!(configured(), Shapes([0; 64]), "the tiles were not released");
    });
}
