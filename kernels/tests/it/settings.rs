//! Settings for a part of a program.

use std::sync::Barrier;

use burn::tensor::Tensor;
use kernels::{Path, Precision, Settings};
use segen_kernels as kernels;

use crate::operators::small_network;
use crate::support::*;

#[test]
fn runs_with_different_settings_at_once_are_each_as_alone() {
    let fastest = Settings::current().with_threads(2);
    let all = [
        fastest.clone(),
        fastest.clone().with_precision(Precision::Bf16),
        fastest.clone().with_precision(Precision::Bf16).with_matrix_tiles(false).with_threads(1),
        on(Path::Portable).with_threads(3),
        on(Path::Stock),
    ];
    let alone: Vec<_> = all.iter().map(|settings| settings.scoped(small_network)).collect();
    assert!(alone[0] != alone[1] && alone[0] != alone[3], "settings without effect test nothing");
    let start = Barrier::new(all.len());
    std::thread::scope(|scope| {
        for (settings, alone) in all.iter().zip(&alone) {
            let start = &start;
            scope.spawn(move || {
                settings.scoped(|| {
                    for _ in 0..3 {
                        start.wait();
                        assert!(small_network() == *alone, "{settings:?} beside others differs from alone");
                    }
                });
            });
        }
    });
}

#[test]
fn a_backward_pass_has_the_settings_of_its_forward_pass() {
    let mut random = Random::new(9);
    let (x, weight) = (random.tensor([1, 6, 7, 18, 12]), random.tensor([20, 12, 3, 3, 3]));
    let factor = random.tensor([1, 6, 7, 18, 20]);
    for path in paths() {
        let bf16 = on(path).with_precision(Precision::Bf16);
        let forward = || {
            let (x, weight) = (leaf(&x), leaf(&weight));
            let volume = kernels::Activation::from_channels_last(x.clone());
            (kernels::conv3d(volume, weight.clone(), None, [1; 3], [1; 3]), [x, weight])
        };
        let backward = |(y, leaves): (kernels::Activation, [Tensor<5>; 2])| {
            gradients::<5, 1>(y.into_channels_last(), &factor, &leaves, &[])
        };
        let expected = bf16.scoped(|| backward(forward()));
        let outside = bf16.scoped(forward);
        assert!(backward(outside) == expected, "{path}: outside of the scope");
        let elsewhere = bf16.scoped(forward);
        let elsewhere = std::thread::scope(|scope| scope.spawn(|| backward(elsewhere)).join().unwrap());
        assert!(elsewhere == expected, "{path}: on another thread");
    }
}
