//! The operators on every path, and the f64 references of the other tests, against values of PyTorch in f64
//! (`reference/make_operators.py`).

use segen_kernels::VoxelLoss;
use serde_json::Value;

use crate::network::Network;
use crate::operator::{Kind, Labels, Operator};
use crate::support::*;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|value| value as f32).collect()
}

fn three(value: &Value) -> [usize; 3] {
    std::array::from_fn(|i| value[i].as_u64().unwrap() as usize)
}

/// An array of a case, if it has it.
fn tensor(case: &Value, name: &str) -> Option<Tensor> {
    let found = case["tensors"].get(name)?;
    let shape: Vec<usize> = numbers(&found["shape"]).into_iter().map(|length| length as usize).collect();
    Some(Tensor::new(floats(&found["values"]), &shape))
}

fn kind(case: &Value) -> Kind {
    match case["nonlinearity"].as_str().unwrap() {
        "none" => Kind::None,
        "relu" => Kind::Relu,
        "leaky" => Kind::Leaky(0.2),
        _ => Kind::PRelu,
    }
}

fn operator(case: &Value) -> Operator {
    match case["name"].as_str().unwrap() {
        "sums" => {
            let first = numbers(&case["target"]).into_iter().map(|label| label as u8).collect();
            Operator::SegmentationSums(Labels { first, second: None }, VoxelLoss::default())
        }
        "global_average" => Operator::GlobalAverage,
        "linear" => Operator::Linear,
        "norm" => Operator::InstanceNormLeakyRelu { epsilon: 1e-5, slope: 0.01 },
        "transposed" => Operator::ConvTranspose3d,
        "convolution" => {
            Operator::Conv3d { stride: three(&case["stride"]), padding: three(&case["padding"]) }
        }
        "batch_norm" => Operator::BatchNorm(1e-5, kind(case)),
        "batch_norm_fixed" => Operator::BatchNormFixed(1e-5, kind(case)),
        "bias_nonlinearity" => Operator::BiasNonlinearity(kind(case)),
        "repeat" => Operator::UpsampleRepeat { factor: three(&case["factor"]), size: three(&case["size"]) },
        "replicate" => Operator::PadReplicate(three(&case["pad"])),
        "add_cropped" => Operator::AddCropped,
        "multiply_mask" => Operator::MultiplyMask,
        name => panic!("no operator {name}"),
    }
}

/// The network of a case and its results by PyTorch: output, gradients, measured statistics.
fn network(case: &Value) -> (Network, Vec<Vec<f64>>) {
    let operator = operator(case);
    let mut network = Network::default();
    let named = |kind: &str| {
        let kind = String::from(kind);
        (0..).map_while(move |i| tensor(case, &format!("{kind}{i}")))
    };
    let inputs: Vec<Tensor> = named("input").collect();
    let x = inputs[0].shape.clone();
    let mut ids: Vec<usize> = inputs.into_iter().map(|input| network.leaf(input)).collect();
    let values = |name: &str| numbers(&case["tensors"][name]["values"]);
    let mut expected = vec![values("output")];
    expected.extend((0..ids.len()).map(|i| values(&format!("gradient{i}"))));
    match &operator {
        Operator::BatchNorm(..) => {
            expected.extend(["mean", "variance"].map(|name| numbers(&case[name])));
        }
        Operator::BatchNormFixed(..) => {
            let given = ["mean", "variance"].map(|name| {
                let values = floats(&case[name]);
                network.constant(Tensor::new(values, &[x[4]]))
            });
            ids.splice(3..3, given);
        }
        Operator::MultiplyMask => {
            ids.push(network.constant(Tensor::new(floats(&case["mask"]), &[x[0], 1, 1, 1, x[4]])));
        }
        _ => {}
    }
    let mut slopes = tensor(case, "factor").unwrap().values;
    if let Operator::SegmentationSums(..) = operator {
        // The values were made of the columns before the attenuated false negatives, which are the false negatives here.
        slopes = with_attenuated(&slopes, x[4], |_| 0.0);
        expected[0] = with_attenuated(&expected[0], x[4], |value| value);
    }
    network.apply(operator, &ids);
    (network.with_slopes(slopes), expected)
}

/// Rows of 2 + 3 classes columns with the false negatives, changed, once more at the end.
fn with_attenuated<T: Copy>(values: &[T], classes: usize, change: impl Fn(T) -> T) -> Vec<T> {
    let row = |row: &[T]| {
        let again = row[1 + 2 * classes..1 + 3 * classes].iter().map(|value| change(*value));
        row.iter().copied().chain(again).collect::<Vec<T>>()
    };
    values.chunks(2 + 3 * classes).flat_map(row).collect()
}

#[test]
fn operators_and_references_agree_with_pytorch() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../data/operators.json")).unwrap();
    assert!(cases.len() >= 31);
    for case in &cases {
        let (network, expected) = network(case);
        let what = case["name"].to_string();
        let exact = network.exact();
        assert_eq!(exact.len(), expected.len());
        for (index, (exact, expected)) in exact.iter().zip(&expected).enumerate() {
            // The file has eight digits after the point.
            let apart = exact.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 6e-9, "{what}: result {index} of the reference is off by {apart:.1e}");
        }
        for path in paths() {
            assert_close(path, &what, &on(path).scoped(|| network.run()), &expected, 2e-6);
        }
    }
}
