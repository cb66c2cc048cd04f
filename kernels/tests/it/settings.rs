//! Settings for a part of a program.

use std::sync::Barrier;

use segen_kernels::{Path, Precision, Settings};

use crate::network::Network;
use crate::operator::Operator;
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
        on(Path::Portable).with_precision(Precision::Bf16),
    ];
    let network = small_network();
    let alone: Vec<_> = all.iter().map(|settings| settings.scoped(|| network.run())).collect();
    assert!(alone[0] != alone[1] && alone[0] != alone[3], "settings without effect test nothing");
    let start = Barrier::new(all.len());
    std::thread::scope(|scope| {
        for (settings, alone) in all.iter().zip(&alone) {
            let (start, network) = (&start, &network);
            scope.spawn(move || {
                settings.scoped(|| {
                    for _ in 0..3 {
                        start.wait();
                        assert!(network.run() == *alone, "{settings:?} beside others differs from alone");
                    }
                });
            });
        }
    });
}

#[test]
fn a_backward_pass_has_the_settings_of_its_forward_pass() {
    let mut random = Random::new(9);
    let (x, weight) = (random.tensor(&[1, 6, 7, 18, 12]), random.tensor(&[20, 12, 3, 3, 3]));
    let operator = Operator::Conv3d { stride: [1; 3], padding: [1; 3] };
    let network = Network::of(operator, &[x, weight], &random.tensor(&[1, 6, 7, 18, 20]));
    for path in paths() {
        let bf16 = on(path).with_precision(Precision::Bf16);
        let expected = bf16.scoped(|| network.run());
        let outside = bf16.scoped(|| network.forward());
        assert!(outside.backward() == expected, "{path}: outside of the scope");
        let elsewhere = bf16.scoped(|| network.forward());
        let elsewhere = std::thread::scope(|scope| scope.spawn(|| elsewhere.backward()).join().unwrap());
        assert!(elsewhere == expected, "{path}: on another thread");
    }
}
