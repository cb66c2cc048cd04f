//! The operators on every path against values of PyTorch in f64 (`reference/make_operators.py`).

use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::{Activation, Nonlinearity, Path, VoxelLoss};
use segen_kernels as kernels;
use serde_json::Value;

use crate::support::{on, paths};

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn floats(case: &Value, name: &str) -> Vec<f64> {
    numbers(&case["tensors"][name]["values"])
}

fn constant<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
    let values = values.iter().map(|&value| value as f32).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff())
}

fn three(value: &Value) -> [usize; 3] {
    std::array::from_fn(|i| value[i].as_u64().unwrap() as usize)
}

fn assert_close(path: Path, case: &Value, name: &str, result: &[f32], expected: &[f64]) {
    assert_eq!(result.len(), expected.len());
    let difference: f64 = result.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    let norm: f64 = expected.iter().map(|v| v * v).sum();
    let error = (difference / norm.max(1e-30)).sqrt();
    assert!(error <= 1e-5, "{path}: {}: {name} differs by {error:.2e} of its norm", case["name"]);
}

/// An input of a case, of its rank.
enum Input {
    Volume(Tensor<5>),
    Matrix(Tensor<2>),
    Vector(Tensor<1>),
}

impl Input {
    fn new(case: &Value, name: &str) -> Self {
        let values = floats(case, name);
        let shape = case["tensors"][name]["shape"].as_array().unwrap();
        let shape: Vec<usize> = shape.iter().map(|v| v.as_u64().unwrap() as usize).collect();
        match shape[..] {
            [a, b, c, d, e] => Self::Volume(constant(&values, [a, b, c, d, e]).require_grad()),
            [a, b] => Self::Matrix(constant(&values, [a, b]).require_grad()),
            [a] => Self::Vector(constant(&values, [a]).require_grad()),
            _ => panic!("{name} has rank {}", shape.len()),
        }
    }

    fn volume(&self) -> Tensor<5> {
        let Self::Volume(tensor) = self else { panic!("not a volume") };
        tensor.clone()
    }

    fn activation(&self) -> Activation {
        Activation::from_channels_last(self.volume())
    }

    fn matrix(&self) -> Tensor<2> {
        let Self::Matrix(tensor) = self else { panic!("not a matrix") };
        tensor.clone()
    }

    fn vector(&self) -> Tensor<1> {
        let Self::Vector(tensor) = self else { panic!("not a vector") };
        tensor.clone()
    }
}

fn nonlinearity(case: &Value, slope: Option<&Input>) -> Nonlinearity {
    match case["nonlinearity"].as_str().unwrap() {
        "none" => Nonlinearity::None,
        "relu" => Nonlinearity::Relu,
        "leaky" => Nonlinearity::LeakyRelu(0.2),
        _ => Nonlinearity::PRelu(slope.unwrap().vector()),
    }
}

/// The output of a case's operator: a volume or a matrix.
#[expect(clippy::result_large_err, reason = "either kind of result, once a case")]
fn run(path: Path, case: &Value, inputs: &[Input]) -> Result<Tensor<5>, Tensor<2>> {
    let statistics = |name: &str| {
        let values = numbers(&case[name]);
        constant(&values, [values.len()])
    };
    let x = || inputs[0].activation();
    let output = match case["name"].as_str().unwrap() {
        "sums" => {
            let target = numbers(&case["target"]).into_iter().map(|v| v as i32).collect::<Vec<_>>();
            let [batch, sx, sy, sz, _] = inputs[0].volume().dims();
            let target = TensorData::new(target, [batch, sx, sy, sz]);
            let target = Tensor::<4, Int>::from_data(target, &Device::flex().autodiff());
            let classes = inputs[0].volume().dims()[4];
            // The values were made of the columns before the attenuated false negatives.
            let sums = kernels::segmentation_sums(x(), target, &VoxelLoss::default());
            return Err(sums.slice([0..batch, 0..2 + 3 * classes]));
        }
        "global_average" => return Err(kernels::global_average(x())),
        "linear" => {
            return Err(kernels::linear(inputs[0].matrix(), inputs[1].matrix(), Some(inputs[2].vector())));
        }
        "norm" => kernels::instance_norm_leaky_relu(x(), inputs[1].vector(), inputs[2].vector(), 1e-5, 0.01),
        "transposed" => kernels::conv_transpose3d(x(), inputs[1].volume(), Some(inputs[2].vector())),
        "convolution" => {
            let (stride, padding) = (three(&case["stride"]), three(&case["padding"]));
            kernels::conv3d(x(), inputs[1].volume(), Some(inputs[2].vector()), stride, padding)
        }
        "batch_norm" => {
            let nonlinearity = nonlinearity(case, inputs.get(3));
            let (weight, bias) = (inputs[1].vector(), inputs[2].vector());
            let (y, measured) = kernels::batch_norm(x(), weight, bias, 1e-5, nonlinearity);
            assert_close(path, case, "mean", &measured.mean, &numbers(&case["mean"]));
            assert_close(path, case, "variance", &measured.variance, &numbers(&case["variance"]));
            let [batch, sx, sy, sz, _] = inputs[0].volume().dims();
            assert_eq!(measured.count, batch * sx * sy * sz);
            y
        }
        "batch_norm_fixed" => {
            let nonlinearity = nonlinearity(case, inputs.get(3));
            let (weight, bias) = (inputs[1].vector(), inputs[2].vector());
            let (mean, variance) = (statistics("mean"), statistics("variance"));
            kernels::batch_norm_fixed(x(), weight, bias, mean, variance, 1e-5, nonlinearity)
        }
        "bias_nonlinearity" => {
            kernels::bias_nonlinearity(x(), inputs[1].vector(), nonlinearity(case, inputs.get(2)))
        }
        "max_pool" => kernels::max_pool3d(x(), three(&case["kernel"]), three(&case["stride"])),
        "avg_pool" => kernels::avg_pool3d(x(), three(&case["kernel"]), three(&case["stride"])),
        "trilinear" => kernels::upsample_trilinear(x(), three(&case["factor"])),
        "repeat" => kernels::upsample_repeat(x(), three(&case["factor"]), three(&case["size"])),
        "replicate" => kernels::pad_replicate(x(), three(&case["pad"])),
        "crop" => kernels::crop(x(), three(&case["start"]), three(&case["size"])),
        "add_cropped" => kernels::add_cropped(x(), inputs[1].activation()),
        "multiply_mask" => {
            let [batch, .., channels] = inputs[0].volume().dims();
            kernels::multiply_mask(x(), constant(&numbers(&case["mask"]), [batch, 1, 1, 1, channels]))
        }
        name => panic!("no operator {name}"),
    };
    Ok(output.into_channels_last())
}

/// Checks output and gradients of one case.
fn check(path: Path, case: &Value) {
    let count = (0..).take_while(|i| !case["tensors"][format!("input{i}")].is_null()).count();
    let inputs: Vec<Input> = (0..count).map(|i| Input::new(case, &format!("input{i}"))).collect();
    let output = run(path, case, &inputs);
    let factor = floats(case, "factor");
    let (values, gradients) = match output {
        Ok(output) => {
            let factor = constant(&factor, output.dims());
            (output.clone().into_data(), (output * factor).sum().backward())
        }
        Err(output) => {
            let factor = constant(&factor, output.dims());
            (output.clone().into_data(), (output * factor).sum().backward())
        }
    };
    assert_close(path, case, "output", &values.try_into_vec::<f32>().unwrap(), &floats(case, "output"));
    for (index, input) in inputs.iter().enumerate() {
        let gradient = match input {
            Input::Volume(tensor) => tensor.grad(&gradients).unwrap().into_data(),
            Input::Matrix(tensor) => tensor.grad(&gradients).unwrap().into_data(),
            Input::Vector(tensor) => tensor.grad(&gradients).unwrap().into_data(),
        };
        let name = format!("gradient{index}");
        assert_close(path, case, &name, &gradient.try_into_vec::<f32>().unwrap(), &floats(case, &name));
    }
}

#[test]
fn operators_agree_with_pytorch_on_every_path() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../data/operators.json")).unwrap();
    assert!(cases.len() >= 38);
    for path in [Path::Stock].into_iter().chain(paths()) {
        for case in &cases {
            on(path).scoped(|| check(path, case));
        }
    }
}
