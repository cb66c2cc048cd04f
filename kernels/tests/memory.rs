//! What a recording keeps, in a process of its own, where nothing else takes memory meanwhile.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kernels::{Activation, Array, Device, Nonlinearity, Recording};
use segen_kernels as kernels;

const MIB: usize = 1 << 20;
/// Of one array, and the number of operators that keep one each.
const EACH: usize = 4 * MIB;
const STEPS: usize = 40;

/// Resident bytes of this process: now (`VmRSS`), or the most so far (`VmHWM`).
fn resident(key: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn array(value: f32) -> Array {
    Array::full(value, &[1, 16, 16, EACH / (4 * 16 * 16 * 32), 32], &Device::Cpu)
}

/// Every step keeps its input, and adds a leaf of the same size.
fn chain(recording: &Recording) -> Activation {
    let bias = Array::full(0.5, &[32], &Device::Cpu);
    let mut x = Activation::from_channels_last(array(1.0));
    for _ in 0..STEPS {
        let leaf = Activation::from_channels_last(recording.leaf(array(2.0)));
        x = kernels::bias_nonlinearity(kernels::add(x, leaf), bias.clone(), Nonlinearity::Relu);
    }
    x
}

#[test]
fn a_backward_pass_frees_what_the_recording_kept() {
    let step = || {
        let recording = Recording::new();
        let end = kernels::global_average(chain(&recording));
        let gradients = recording.backward(vec![(end.clone(), vec![1.0; 32])]);
        assert_eq!(gradients.len(), STEPS);
        end
    };
    // While gradients of the leaves come, what was kept goes: there is memory for either of these two at a time, and for
    // the gradients on the host.
    let before = resident("VmRSS");
    let first = step();
    let most = resident("VmHWM") - before;
    assert!(most < (2 * STEPS + STEPS / 2) * EACH, "{} MiB for {STEPS} steps of 4 MiB", most / MIB);
    // The end of a recording that has ended, still there, keeps nothing but itself.
    let once = resident("VmRSS");
    let ends: Vec<Array> = (0..6).map(|_| step()).collect();
    let grown = resident("VmRSS").saturating_sub(once);
    assert!(grown < STEPS * EACH, "{} MiB more after six more steps", grown / MIB);
    assert!(ends.iter().all(|end| end.to_host() == first.to_host()));
}
