//! The operators on every path against values of PyTorch in f64 (`reference/make_operators.py`).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use burn::tensor::{Device, Int, Tensor, TensorData};
use segen_kernels::{self as kernels, Activation, Path, VoxelLoss};
use serde_json::Value;

fn floats(case: &Value, name: &str) -> Vec<f64> {
    case["tensors"][name]["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn tensor<const D: usize>(case: &Value, name: &str) -> Tensor<D> {
    let values = floats(case, name).into_iter().map(|value| value as f32).collect::<Vec<_>>();
    let shape = case["tensors"][name]["shape"].as_array().unwrap();
    let shape: [usize; D] = std::array::from_fn(|i| shape[i].as_u64().unwrap() as usize);
    Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff())
}

fn three(value: &Value) -> [usize; 3] {
    std::array::from_fn(|i| value[i].as_u64().unwrap() as usize)
}

fn assert_close<const D: usize>(path: Path, case: &Value, name: &str, result: Tensor<D>) {
    let result = result.into_data().try_into_vec::<f32>().unwrap();
    let expected = floats(case, name);
    assert_eq!(result.len(), expected.len());
    let difference: f64 = result.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    let error = (difference / expected.iter().map(|v| v * v).sum::<f64>()).sqrt();
    assert!(error <= 1e-5, "{path}: {}: {name} differs by {error:.2e} of its norm", case["name"]);
}

/// Checks output and gradients of one case.
fn check(path: Path, case: &Value) {
    let x = tensor::<5>(case, "input0").require_grad();
    let activation = Activation::from_channels_last(x.clone());
    let name = case["name"].as_str().unwrap();
    if name == "sums" {
        let target =
            case["target"].as_array().unwrap().iter().map(|v| v.as_i64().unwrap() as i32).collect::<Vec<_>>();
        let shape = x.dims();
        let target = TensorData::new(target, [shape[0], shape[1], shape[2], shape[3]]);
        let target = Tensor::<4, Int>::from_data(target, &Device::flex().autodiff());
        let output = kernels::segmentation_sums(activation, target, &VoxelLoss::default());
        // The values were made of the columns before the attenuated false negatives.
        let output = output.slice([0..shape[0], 0..2 + 3 * shape[4]]);
        let gradients = (output.clone() * tensor::<2>(case, "factor")).sum().backward();
        assert_close(path, case, "output", output.inner());
        assert_close(path, case, "gradient0", x.grad(&gradients).unwrap());
        return;
    }
    let bias = tensor::<1>(case, "input2").require_grad();
    let (output, weight) = match name {
        "norm" => {
            let weight = tensor::<1>(case, "input1").require_grad();
            let output =
                kernels::instance_norm_leaky_relu(activation, weight.clone(), bias.clone(), 1e-5, 0.01);
            (output, Err(weight))
        }
        "transposed" => {
            let weight = tensor::<5>(case, "input1").require_grad();
            (kernels::conv_transpose3d(activation, weight.clone(), Some(bias.clone())), Ok(weight))
        }
        _ => {
            let weight = tensor::<5>(case, "input1").require_grad();
            let (stride, padding) = (three(&case["stride"]), three(&case["padding"]));
            (kernels::conv3d(activation, weight.clone(), Some(bias.clone()), stride, padding), Ok(weight))
        }
    };
    let output = output.into_channels_last();
    let gradients = (output.clone() * tensor::<5>(case, "factor")).sum().backward();
    assert_close(path, case, "output", output.inner());
    assert_close(path, case, "gradient0", x.grad(&gradients).unwrap());
    match weight {
        Ok(weight) => assert_close(path, case, "gradient1", weight.grad(&gradients).unwrap()),
        Err(weight) => assert_close(path, case, "gradient1", weight.grad(&gradients).unwrap()),
    }
    assert_close(path, case, "gradient2", bias.grad(&gradients).unwrap());
}

#[test]
fn operators_agree_with_pytorch_on_every_path() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/operators.json")).unwrap();
    assert!(cases.len() >= 9);
    for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
        kernels::select(Some(path)).unwrap();
        for case in &cases {
            check(path, case);
        }
    }
}
