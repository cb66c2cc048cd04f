"""Writes tests/data/unet.json: gradients of a whole small U-Net in f64, and PyTorch's own errors in f32 and bf16.

Usage: python kernels/tests/reference/make_unet.py

Parameters and inputs are made of the numbers of their places by a formula (`numbers`), the same in the test, and are
exact in f32, so that the file need not hold them.
"""

import json
import math
import pathlib

import torch
from torch.nn import functional

BATCH, CHANNELS, SIZE, FEATURES, CLASSES = 2, 2, 16, (8, 16), 3
torch.set_num_threads(1)


def numbers(shape, salt, scale=1.0):
    i = torch.arange(math.prod(shape), dtype=torch.int64)
    return (((i * i * 31 + i * 7919 + salt * 104729) % 251 - 125).double() / 128 * scale).reshape(shape)


def parameters():
    """(name, values) in the order of use."""
    made = []

    def add(name, shape, scale=1.0, shift=0.0):
        made.append((name, numbers(shape, len(made) + 10, scale) + shift))

    def block(name, channels_in, channels_out):
        add(f"{name}.weight", (channels_out, channels_in, 3, 3, 3), 2.0 ** -round(math.log2(math.sqrt(9 * channels_in))))
        add(f"{name}.bias", (channels_out,), 0.25)
        add(f"{name}.scale", (channels_out,), 0.25, 1.0)
        add(f"{name}.shift", (channels_out,), 0.25)

    shallow, deep = FEATURES
    block("encoder0.0", CHANNELS, shallow)
    block("encoder0.1", shallow, shallow)
    block("encoder1.0", shallow, deep)
    block("encoder1.1", deep, deep)
    add("up.weight", (deep, shallow, 2, 2, 2), 0.25)
    add("up.bias", (shallow,), 0.25)
    block("decoder.0", 2 * shallow, shallow)
    block("decoder.1", shallow, shallow)
    add("head.weight", (CLASSES, shallow, 1, 1, 1), 0.5)
    add("head.bias", (CLASSES,), 0.25)
    return made


def gradients(dtype, bf16=False):
    leaves = [values.to(dtype).requires_grad_() for _, values in parameters()]
    queue = iter(leaves)

    def block(x, stride=1):
        x = functional.conv3d(x, next(queue), next(queue), stride, 1)
        x = functional.instance_norm(x, weight=next(queue), bias=next(queue), eps=1e-5)
        return functional.leaky_relu(x, 0.01)

    x = numbers((BATCH, CHANNELS, SIZE, SIZE, SIZE), 1).to(dtype)
    i = torch.arange(BATCH * SIZE**3)
    target = ((i * i * 13 + i * 5) % 101 % CLASSES).reshape(BATCH, SIZE, SIZE, SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        skip = block(block(x))
        x = block(block(skip, 2))
        x = functional.conv_transpose3d(x, next(queue), next(queue), 2)
        x = block(block(torch.cat([x, skip], 1)))
        logits = functional.conv3d(x, next(queue), next(queue))
    loss = functional.cross_entropy(logits.to(dtype), target)
    loss.backward()
    return loss.item(), [leaf.grad.double() for leaf in leaves]


loss, exact = gradients(torch.float64)
_, single = gradients(torch.float32)
_, rounded = gradients(torch.float32, bf16=True)
tensors = []
for (name, _), reference, f32, bf16 in zip(parameters(), exact, single, rounded):
    error = {
        key: ((values - reference).norm() / reference.norm()).item() for key, values in [("f32", f32), ("bf16", bf16)]
    }
    print(f"{name:20s} {reference.norm():.3e} f32 {error['f32']:.2e} bf16 {error['bf16']:.2e}")
    values = [float(f"{value:.9g}") for value in reference.flatten().tolist()]
    tensors.append({"name": name, "shape": list(reference.shape), "error": error, "gradient": values})
path = pathlib.Path(__file__).parents[1] / "data" / "unet.json"
path.write_text(json.dumps({"loss": loss, "tensors": tensors}) + "\n")
