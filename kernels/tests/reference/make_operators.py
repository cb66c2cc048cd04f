"""Writes tests/data/operators.json: results and gradients of the operators in PyTorch, in f64, channels-last.

Usage: python kernels/tests/reference/make_operators.py
"""

import json
import pathlib

import torch
from torch.nn import functional

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)


def random(*shape):
    """Multiples of 1/64, exact in f32."""
    return (torch.randint(-64, 65, shape) / 64).requires_grad_()


def first(x):
    return x.permute(0, 4, 1, 2, 3)


def last(x):
    return x.permute(0, 2, 3, 4, 1)


def case(name, inputs, output, **settings):
    factor = (torch.randint(-64, 65, output.shape) / 64)
    (output * factor).sum().backward()
    tensors = [*inputs, output, factor, *(tensor.grad for tensor in inputs)]
    names = [f"input{i}" for i in range(len(inputs))] + ["output", "factor"] + [f"gradient{i}" for i in range(len(inputs))]
    encoded = {
        key: {"shape": list(tensor.shape), "values": [round(v, 8) for v in tensor.detach().flatten().tolist()]}
        for key, tensor in zip(names, tensors)
    }
    return {"name": name, **settings, "tensors": encoded}


def convolution(kernel, stride, padding, size=(5, 4, 6)):
    x, weight, bias = random(2, *size, 3), random(4, 3, *kernel), random(4)
    output = last(functional.conv3d(first(x), weight, bias, stride, padding))
    return case("convolution", [x, weight, bias], output, stride=stride, padding=padding)


def transposed(kernel):
    x, weight, bias = random(2, 3, 2, 4, 5), random(5, 3, *kernel), random(3)
    return case("transposed", [x, weight, bias], last(functional.conv_transpose3d(first(x), weight, bias, kernel)))


def norm():
    x, weight, bias = random(2, 4, 3, 5, 3), random(3), random(3)
    output = last(functional.leaky_relu(functional.instance_norm(first(x), weight=weight, bias=bias, eps=1e-5), 0.01))
    return case("norm", [x, weight, bias], output)


def with_nonlinearity(values, name, slope):
    """values: channels-first."""
    return {
        "none": lambda: values,
        "relu": lambda: functional.relu(values),
        "leaky": lambda: functional.leaky_relu(values, 0.2),
        "prelu": lambda: functional.prelu(values, slope),
    }[name]()


def batch_norm(nonlinearity):
    x, weight, bias, slope = random(2, 3, 2, 5, 3), random(3), random(3), random(3)
    y = functional.batch_norm(first(x), None, None, weight, bias, training=True, eps=1e-5)
    output = last(with_nonlinearity(y, nonlinearity, slope))
    inputs = [x, weight, bias] + ([slope] if nonlinearity == "prelu" else [])
    statistics = {
        "mean": x.detach().mean((0, 1, 2, 3)).tolist(),
        "variance": x.detach().var((0, 1, 2, 3), unbiased=False).tolist(),
    }
    return case("batch_norm", inputs, output, nonlinearity=nonlinearity, **statistics)


def batch_norm_fixed(nonlinearity):
    x, weight, bias, slope = random(2, 3, 2, 5, 3), random(3), random(3), random(3)
    mean, variance = random(3).detach(), random(3).detach().abs() + 0.5
    y = functional.batch_norm(first(x), mean, variance, weight, bias, training=False, eps=1e-5)
    output = last(with_nonlinearity(y, nonlinearity, slope))
    inputs = [x, weight, bias] + ([slope] if nonlinearity == "prelu" else [])
    statistics = {"mean": mean.tolist(), "variance": variance.tolist()}
    return case("batch_norm_fixed", inputs, output, nonlinearity=nonlinearity, **statistics)


def bias_nonlinearity(nonlinearity):
    x, bias, slope = random(2, 3, 2, 5, 3), random(3), random(3)
    output = last(with_nonlinearity(first(x) + bias[:, None, None, None], nonlinearity, slope))
    inputs = [x, bias] + ([slope] if nonlinearity == "prelu" else [])
    return case("bias_nonlinearity", inputs, output, nonlinearity=nonlinearity)


def spatial(name, settings, function, size=(5, 4, 6)):
    x = random(1, *size, 2)
    return case(name, [x], last(function(first(x))), **settings)


def repeat(factor, size):
    def run(x):
        for axis in range(3):
            x = x.repeat_interleave(factor[axis], axis + 2)
        return x[:, :, : size[0], : size[1], : size[2]]

    return spatial("repeat", dict(factor=factor, size=size), run)


def replicate(pad):
    x, y, z = pad
    return spatial("replicate", dict(pad=pad), lambda t: functional.pad(t, [z, z, y, y, x, x], mode="replicate"))


def add_cropped():
    x, residual = random(2, 3, 2, 4, 5), random(2, 5, 5, 4, 3)
    centre = functional.pad(residual[:, 1:4, 1:3, 0:4], [0, 2])
    return case("add_cropped", [x, residual], x + centre)


def multiply_mask():
    x = random(2, 3, 2, 4, 5)
    mask = (torch.rand(2, 1, 1, 1, 5) < 0.5).double()
    return case("multiply_mask", [x], x * mask, mask=mask.flatten().tolist())


def global_average():
    x = random(2, 3, 2, 4, 5)
    return case("global_average", [x], x.mean((1, 2, 3)))


def linear():
    x, weight, bias = random(5, 7), random(3, 7), random(3)
    return case("linear", [x, weight, bias], functional.linear(x, weight, bias))


def sums():
    classes = 3
    logits = random(2, 3, 4, 2, classes)
    target = torch.randint(0, classes + 1, logits.shape[:4])
    target[target == classes] = 255
    valid = (target != 255).double()
    one_hot = functional.one_hot(target.clamp(max=classes), classes + 1)[..., :classes].double()
    p, log_p = logits.softmax(-1), logits.log_softmax(-1)
    over = (1, 2, 3)
    columns = [
        -(log_p * one_hot).sum(over).sum(-1, keepdim=True),
        (p * one_hot).sum(over),
        (p * (valid[..., None] - one_hot)).sum(over),
        ((1 - p) * one_hot).sum(over),
        valid.sum(over)[:, None],
    ]
    return case("sums", [logits], torch.cat(columns, 1), target=target.flatten().tolist())


cases = [
    convolution([3, 3, 3], [1, 1, 1], [1, 1, 1]),
    convolution([3, 3, 3], [2, 2, 2], [1, 1, 1]),
    convolution([3, 3, 3], [1, 1, 1], [0, 0, 0]),
    convolution([1, 3, 3], [1, 2, 1], [0, 1, 1]),
    convolution([1, 1, 1], [1, 1, 1], [0, 0, 0]),
    convolution([3, 3, 1], [1, 1, 1], [1, 1, 0]),
    convolution([3, 3, 1], [2, 2, 1], [1, 1, 0]),
    convolution([3, 3, 1], [1, 1, 1], [1, 1, 0], size=[7, 6, 1]),
    convolution([1, 1, 1], [2, 2, 1], [0, 0, 0], size=[7, 6, 1]),
    transposed([2, 2, 2]),
    transposed([1, 2, 2]),
    norm(),
    sums(),
    *(batch_norm(nonlinearity) for nonlinearity in ["none", "relu", "leaky", "prelu"]),
    *(batch_norm_fixed(nonlinearity) for nonlinearity in ["none", "relu", "leaky", "prelu"]),
    *(bias_nonlinearity(nonlinearity) for nonlinearity in ["none", "relu", "leaky", "prelu"]),
    repeat([3, 5, 1], [13, 19, 6]),
    replicate([1, 2, 0]),
    add_cropped(),
    multiply_mask(),
    global_average(),
    linear(),
]
path = pathlib.Path(__file__).parents[1] / "data" / "operators.json"
path.write_text(json.dumps(cases) + "\n")
