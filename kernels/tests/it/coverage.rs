//! Every public operator of the crate is compared with f64, on every path, and with any of its inputs constant.

use std::collections::BTreeSet;
use std::path::Path;

use kernels::{IGNORED, UNLABELLED, VoxelLoss};
use segen_kernels as kernels;

use crate::network::Network;
use crate::operator::{Kind, Labels, Operator};
use crate::support::*;

/// Public functions that are no operators.
const OTHERS: [&str; 1] = ["convolution_speed"];

/// One case at least of every operator, all inputs leaves, and how near f64 it is.
fn cases() -> Vec<(Network, f64)> {
    let mut random = Random::new(17);
    let [x, other] = [(); 2].map(|()| random.tensor(&[2, 4, 3, 5, 6]));
    let residual = random.tensor(&[2, 6, 4, 5, 5]);
    let mask = random.tensor(&[2, 1, 1, 1, 6]);
    let vectors = [(); 5].map(|()| random.tensor(&[6]).map(|value| value + 1.2));
    let [weight, bias, slopes, mean, variance] = &vectors;
    let labels: Vec<u8> = random
        .labels(120, 8)
        .into_iter()
        .map(|label| [0, 1, 2, 3, 4, 5, UNLABELLED as u8, IGNORED as u8][usize::from(label)])
        .collect();
    let labels = Labels { first: labels, second: Some((random.labels(120, 6), 0.7)) };
    let loss = VoxelLoss { focal: vec![2.0; 6], margin: vec![0.5; 6], ..VoxelLoss::default() };
    let (kernel, transposed) = (random.tensor(&[7, 6, 3, 1, 3]), random.tensor(&[6, 7, 2, 1, 2]));
    let (rows, matrix, seven) = (random.tensor(&[5, 6]), random.tensor(&[7, 6]), random.tensor(&[7]));
    let convolution = Operator::Conv3d { stride: [1, 1, 2], padding: [1, 0, 1] };
    let norm = Operator::InstanceNormLeakyRelu { epsilon: 1e-5, slope: 0.01 };
    let kind = Kind::PRelu;
    let cases: Vec<(Operator, Vec<&Tensor>, f64)> = vec![
        (convolution.clone(), vec![&x, &kernel], 2e-6),
        (convolution, vec![&x, &kernel, &seven], 2e-6),
        (Operator::ConvTranspose3d, vec![&x, &transposed], 2e-6),
        (Operator::ConvTranspose3d, vec![&x, &transposed, &seven], 2e-6),
        (Operator::Linear, vec![&rows, &matrix, &seven], 2e-6),
        (norm, vec![&x, weight, bias], 2e-5),
        (Operator::BatchNorm(1e-5, kind), vec![&x, weight, bias, slopes], 1e-5),
        (Operator::BatchNormFixed(1e-5, kind), vec![&x, weight, bias, mean, variance, slopes], 2e-6),
        (Operator::BiasNonlinearity(kind), vec![&x, bias, slopes], 2e-6),
        (Operator::PadReplicate([1, 2, 0]), vec![&x], 1e-6),
        (Operator::UpsampleRepeat { factor: [2, 1, 3], size: [7, 3, 14] }, vec![&x], 1e-6),
        (Operator::Add, vec![&x, &other], 0.0),
        (Operator::AddCropped, vec![&x, &residual], 0.0),
        (Operator::MultiplyMask, vec![&x, &mask], 0.0),
        (Operator::Concat, vec![&x, &other], 0.0),
        (Operator::ConcatAll, vec![&x, &other, &x], 0.0),
        (Operator::GlobalAverage, vec![&x], 1e-6),
        (Operator::Softmax, vec![&x], 1e-6),
        (Operator::SegmentationSums(labels, loss), vec![&x], 1e-6),
        (Operator::Scale(1.7), vec![&x], 0.0),
        (Operator::Reshape(vec![24, 30]), vec![&x], 0.0),
        (Operator::FromChannelsFirst, vec![&x], 0.0),
        (Operator::IntoChannelsFirst, vec![&x], 0.0),
    ];
    let network = |(operator, inputs, tolerance): (Operator, Vec<&Tensor>, f64)| {
        let inputs: Vec<Tensor> = inputs.into_iter().cloned().collect();
        (Network::random(operator, &inputs, &mut random), tolerance)
    };
    cases.into_iter().map(network).collect()
}

/// The public functions in a source file, and those methods of which the documentation says that they are differentiable.
fn public_operators(source: &str) -> Vec<String> {
    let mut found = vec![];
    let mut differentiable = false;
    for line in source.lines() {
        if line.trim().starts_with("///") {
            differentiable |= line.contains("Differentiable.") || line.contains("Differentiable;");
            continue;
        }
        if let Some(function) = line.trim().strip_prefix("pub fn ")
            && (line.starts_with("pub") || differentiable)
        {
            found.extend(function.split(['(', '<']).next().map(String::from));
        }
        differentiable = false;
    }
    found
}

#[test]
fn every_operator_agrees_with_f64() {
    let mut compared = BTreeSet::new();
    for (network, tolerance) in cases() {
        for operator in network.operators() {
            network.compare(&format!("{operator:?}"), tolerance);
            compared.insert(operator.name());
        }
    }
    let mut expected: BTreeSet<String> = BTreeSet::new();
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "rs") {
            expected.extend(public_operators(&std::fs::read_to_string(file).unwrap()));
        }
    }
    OTHERS.into_iter().for_each(|name| assert!(expected.remove(name), "there is no function {name}"));
    assert_eq!(compared, expected, "left: compared with f64; right: the operators of the crate");
}

#[test]
fn which_inputs_are_constant_changes_nothing_for_the_others() {
    for (network, _) in cases() {
        let operator = network.operators().next().unwrap();
        for path in paths() {
            on(path).scoped(|| {
                let all = network.run();
                let inputs = all.len() - 1 - network.with_leaves(|_| false).run().len() + 1;
                let measured = &all[1 + inputs..];
                for leaf in 0..inputs {
                    let mut expected = vec![all[0].clone(), all[1 + leaf].clone()];
                    expected.extend(measured.iter().cloned());
                    let one = network.with_leaves(|input| input == leaf).run();
                    assert!(one == expected, "{path}: {operator:?}: input {leaf} as the only leaf");
                }
            });
        }
    }
}
