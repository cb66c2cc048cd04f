"""Writes tests/data/unet.json: gradients of a whole small U-Net in f64, and PyTorch's own errors in f32 and bf16.

Usage: python kernels/tests/reference/make_unet.py

Parameters and inputs are made of the numbers of their places by a formula (`numbers`), the same in the test, and are
exact in f32, so that the file need not hold them. The error of a tensor of eight values is a matter of luck; hence
DRAWS networks with other numbers, and an error is the root of the mean square over them. Networks where a value lies so
near the kink of its activation that rounding in f32 could carry it across are left out. Of large tensors, the first KEPT
values are compared.
"""

import itertools
import json
import math
import pathlib

import torch
from torch.nn import functional

BATCH, CHANNELS, SIZE, FEATURES, CLASSES = 2, 2, 16, (8, 16), 3
DRAWS, KEPT, NEAR = 16, 256, 1e-5
torch.set_num_threads(1)


def numbers(shape, salt, scale=1.0):
    i = torch.arange(math.prod(shape), dtype=torch.int64)
    return (((i * i * 31 + i * 7919 + salt * 104729) % 251 - 125).double() / 128 * scale).reshape(shape)


def parameters(draw):
    """(name, values) in the order of use."""
    made = []

    def add(name, shape, scale=1.0, shift=0.0):
        made.append((name, numbers(shape, 100 * draw + len(made) + 10, scale) + shift))

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


def gradients(draw, dtype, bf16=False):
    """The loss, the first values of each parameter's gradient, and the distance of the nearest value from a kink."""
    nearest = []
    leaves = [values.to(dtype).requires_grad_() for _, values in parameters(draw)]
    queue = iter(leaves)

    def block(x, stride=1):
        x = functional.conv3d(x, next(queue), next(queue), stride, 1)
        x = functional.instance_norm(x, weight=next(queue), bias=next(queue), eps=1e-5)
        nearest.append(x.detach().abs().min().item())
        return functional.leaky_relu(x, 0.01)

    x = numbers((BATCH, CHANNELS, SIZE, SIZE, SIZE), 100 * draw + 1).to(dtype)
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
    return loss.item(), [leaf.grad.double().flatten()[:KEPT] for leaf in leaves], min(nearest)


names = [name for name, _ in parameters(0)]
draws, losses = [], []
tensors = [{"name": name, "error": {"f32": 0.0, "bf16": 0.0}, "gradients": []} for name in names]
for draw in itertools.count():
    loss, exact, nearest = gradients(draw, torch.float64)
    if nearest < NEAR:
        continue
    draws.append(draw)
    losses.append(loss)
    for precision, bf16 in [("f32", False), ("bf16", True)]:
        for tensor, reference, values in zip(tensors, exact, gradients(draw, torch.float32, bf16)[1]):
            tensor["error"][precision] += ((values - reference).norm() / reference.norm()).item() ** 2 / DRAWS
    for tensor, reference in zip(tensors, exact):
        tensor["gradients"].append([float(f"{value:.9g}") for value in reference.tolist()])
    if len(draws) == DRAWS:
        break
for tensor in tensors:
    tensor["error"] = {precision: math.sqrt(error) for precision, error in tensor["error"].items()}
    print(f"{tensor['name']:20s} f32 {tensor['error']['f32']:.2e} bf16 {tensor['error']['bf16']:.2e}")
path = pathlib.Path(__file__).parents[1] / "data" / "unet.json"
path.write_text(json.dumps({"draws": draws, "losses": losses, "tensors": tensors}) + "\n")
