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
        key: {"shape": list(tensor.shape), "values": [round(v, 10) for v in tensor.detach().flatten().tolist()]}
        for key, tensor in zip(names, tensors)
    }
    return {"name": name, **settings, "tensors": encoded}


def convolution(kernel, stride, padding):
    x, weight, bias = random(2, 5, 4, 6, 3), random(4, 3, *kernel), random(4)
    output = last(functional.conv3d(first(x), weight, bias, stride, padding))
    return case("convolution", [x, weight, bias], output, stride=stride, padding=padding)


def transposed(kernel):
    x, weight, bias = random(2, 3, 2, 4, 5), random(5, 3, *kernel), random(3)
    return case("transposed", [x, weight, bias], last(functional.conv_transpose3d(first(x), weight, bias, kernel)))


def norm():
    x, weight, bias = random(2, 4, 3, 5, 3), random(3), random(3)
    output = last(functional.leaky_relu(functional.instance_norm(first(x), weight=weight, bias=bias, eps=1e-5), 0.01))
    return case("norm", [x, weight, bias], output)


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
    transposed([2, 2, 2]),
    transposed([1, 2, 2]),
    norm(),
    sums(),
]
path = pathlib.Path(__file__).parents[1] / "data" / "operators.json"
path.write_text(json.dumps(cases) + "\n")
