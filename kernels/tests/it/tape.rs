//! The tape: what gradients are, of whatever was recorded.

use kernels::{Activation, Array, Recording};
use segen_kernels as kernels;

use crate::network::Network;
use crate::operator::Operator;
use crate::support::*;

fn vector(values: &[f32]) -> Array {
    Tensor::new(values.to_vec(), &[values.len()]).array()
}

fn volume(array: Array) -> Activation {
    let length = array.shape()[0];
    Activation::from_channels_last(array.reshape(&[1, 1, 1, 1, length]))
}

#[test]
fn gradients_of_all_uses_of_an_array_are_added() {
    let values = [2.0, -3.0];
    let recording = Recording::new();
    let x = recording.leaf(vector(&values));
    assert_eq!(recording.backward(vec![(x.scale(3.0), vec![1.0, 10.0])]), [[3.0, 30.0]]);

    let recording = Recording::new();
    let x = volume(recording.leaf(vector(&values)));
    let twice = kernels::add(x.clone(), x).into_channels_last();
    assert_eq!(recording.backward(vec![(twice, vec![1.0, 10.0])]), [[2.0, 20.0]]);

    // Of five uses, two share the gradient that both are handed, and the order of the others is mixed.
    let recording = Recording::new();
    let x = recording.leaf(vector(&values));
    let [two, three, seven] = [2.0, 3.0, 7.0].map(|factor| volume(x.clone().scale(factor)));
    let pair = kernels::add(volume(x.clone()), volume(x));
    let five = kernels::add(kernels::add(seven, pair), kernels::add(two, three));
    let five = five.into_channels_last();
    assert_eq!(five.to_host(), values.map(|value| 14.0 * value));
    assert_eq!(recording.backward(vec![(five, vec![1.0, 10.0])]), [[14.0, 140.0]]);
}

#[test]
fn slopes_that_an_operator_was_handed_are_not_changed_by_sums() {
    // Both inputs of the sum have its gradient, that of y grows by another, and x must not.
    let recording = Recording::new();
    let [x, y] = [1.0, 2.0].map(|value| recording.leaf(vector(&[value])));
    let sum = kernels::add(volume(x), volume(y.clone())).into_channels_last();
    assert_eq!(recording.backward(vec![(sum, vec![1.0]), (y.scale(5.0), vec![1.0])]), [[1.0], [6.0]]);
}

#[test]
fn leaves_without_effect_have_zeros_in_their_order() {
    let recording = Recording::new();
    let x = recording.leaf(vector(&[1.0]));
    let unused = recording.leaf(vector(&[1.0, 2.0, 3.0]));
    let y = recording.leaf(vector(&[1.0]));
    // What is recorded and leads to no end adds nothing.
    drop(unused.scale(2.0));
    let gradients = recording.backward(vec![(y.scale(2.0), vec![1.0]), (x, vec![4.0])]);
    assert_eq!(gradients, [vec![4.0], vec![0.0; 3], vec![2.0]]);
    let recording = Recording::new();
    assert_eq!(recording.backward(vec![]), Vec::<Vec<f32>>::new());
}

#[test]
fn constants_add_nothing() {
    let recording = Recording::new();
    let constant = vector(&[3.0, 4.0]);
    let x = recording.leaf(constant.clone());
    // The clone from which the leaf was made is still none.
    let end = constant.clone().scale(2.0);
    let sum = kernels::add(volume(x), volume(constant)).into_channels_last();
    assert_eq!(recording.backward(vec![(end, vec![5.0; 2]), (sum, vec![1.0, 2.0])]), [[1.0, 2.0]]);
}

#[test]
fn ends_of_two_heads_and_of_an_array_before_them_are_added() {
    let recording = Recording::new();
    let x = recording.leaf(vector(&[1.0, 2.0]));
    let trunk = x.scale(2.0);
    let (first, second) = (trunk.clone().scale(3.0), trunk.clone().scale(-5.0));
    let ends = [
        (first.clone(), vec![1.0, 0.0]),
        (second, vec![0.0, 1.0]),
        (trunk, vec![10.0, 100.0]),
        // The same array twice.
        (first, vec![1.0, 1.0]),
    ];
    assert_eq!(recording.backward(ends.to_vec()), [[2.0 * (3.0 + 10.0 + 3.0), 2.0 * (-5.0 + 100.0 + 3.0)]]);
}

#[test]
#[should_panic(expected = "the inputs of an operator are of different recordings")]
fn inputs_of_two_recordings_are_refused() {
    let [first, second] = [(); 2].map(|()| Recording::new());
    let [x, y] = [first.leaf(vector(&[1.0])), second.leaf(vector(&[1.0]))];
    kernels::add(volume(x), volume(y));
}

#[test]
#[should_panic(expected = "the array is of another recording")]
fn an_end_of_another_recording_is_refused() {
    let [first, second] = [(); 2].map(|()| Recording::new());
    let end = second.leaf(vector(&[1.0]));
    first.leaf(vector(&[1.0]));
    first.backward(vec![(end, vec![1.0])]);
}

#[test]
#[should_panic(expected = "one slope per value is needed")]
fn slopes_of_another_number_are_refused() {
    let recording = Recording::new();
    let x = recording.leaf(vector(&[1.0, 2.0]));
    recording.backward(vec![(x, vec![1.0])]);
}

#[test]
fn a_backward_pass_on_another_thread_is_the_same() {
    let network = composed();
    let expected = network.run();
    let forward = network.forward();
    let elsewhere = std::thread::spawn(move || forward.backward()).join().unwrap();
    assert!(elsewhere == expected);
}

/// A network that is linear in each of its values alone, with a residual connection and a weight used twice.
fn composed() -> Network {
    let mut random = Random::new(31);
    let mut network = Network::default();
    let x = network.leaf(random.tensor(&[1, 4, 4, 3, 2]));
    let weight = network.leaf(random.tensor(&[2, 2, 3, 3, 3]));
    let up = network.leaf(random.tensor(&[2, 3, 2, 1, 1]));
    let matrix = network.leaf(random.tensor(&[2, 3]));
    let y = network.apply(Operator::Conv3d { stride: [1; 3], padding: [1; 3] }, &[x, weight]);
    let y = network.apply(Operator::Add, &[y, x]);
    let y = network.apply(Operator::Scale(0.5), &[y]);
    let y = network.apply(Operator::UpsampleRepeat { factor: [1, 2, 1], size: [4, 7, 3] }, &[y]);
    let y = network.apply(Operator::ConvTranspose3d, &[y, up]);
    let y = network.apply(Operator::GlobalAverage, &[y]);
    let y = network.apply(Operator::Linear, &[y, matrix]);
    network.apply(Operator::Scale(2.0), &[y]);
    network.ended(&mut random)
}

#[test]
fn gradients_are_central_differences() {
    let network = composed();
    for path in paths() {
        on(path).scoped(|| {
            let gradients = &network.run()[1..];
            for (leaf, gradient) in gradients.iter().enumerate() {
                let differences: Vec<f64> = (0..gradient.len())
                    .map(|i| {
                        // Linear in each value, so that a step of any length has no error but rounding.
                        let [above, below] = [1.0, -1.0].map(|step| network.moved(leaf, i, step).sum());
                        (above - below) / 2.0
                    })
                    .collect();
                assert!(relative(gradient, &differences) < 3e-6, "{path}: leaf {leaf}");
            }
        });
    }
}
