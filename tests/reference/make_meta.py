"""Reference values for tests/it/meta.rs: the gradient of a validation loss through one unrolled training step, with
respect to the weight of every training sample, by PyTorch's automatic differentiation in float64.

Weights and inputs are the hashes of tests/reference/make_networks.py, so that the file holds results alone:

    python tests/reference/make_meta.py tests/data/meta.json
"""

import json
import sys

import numpy as np
import torch
import torch.nn.functional as F

from make_networks import tensor, uniform

RATE, CLASSES, CHANNELS, EDGE = 0.05, 3, 2, 8
SMOOTH = 1e-5
# In the order in which the program uses them.
SHAPES = []


def block(name, inputs, outputs):
    SHAPES.extend([
        (name + ".conv.weight", (outputs, inputs, 3, 3, 3)),
        (name + ".conv.bias", (outputs,)),
        (name + ".norm.weight", (outputs,)),
        (name + ".norm.bias", (outputs,)),
    ])


block("encoder.0.0", CHANNELS, 4)
block("encoder.1.0", 4, 6)
block("decoder.0.0", 8, 4)
SHAPES.extend([
    ("decoder.0.up.weight", (6, 4, 2, 2, 2)),
    ("decoder.0.up.bias", (4,)),
    ("head.0.weight", (CLASSES, 4, 1, 1, 1)),
    ("head.0.bias", (CLASSES,)),
])


def parameters():
    made = {}
    for stream, (name, shape) in enumerate(SHAPES):
        if len(shape) > 1:
            scale, shift = (6.0 / np.prod(shape[1:])) ** 0.5, 0.0
        elif name.endswith("weight"):
            scale, shift = 0.3, 1.0
        else:
            scale, shift = 0.3, 0.0
        made[name] = tensor(shape, stream, scale, shift).requires_grad_()
    return made


def forward(p, x):
    def layer(name, x, stride):
        x = F.conv3d(x, p[name + ".conv.weight"], p[name + ".conv.bias"], stride=stride, padding=1)
        x = F.instance_norm(x, weight=p[name + ".norm.weight"], bias=p[name + ".norm.bias"], eps=1e-5)
        return F.leaky_relu(x, 0.01)

    skip = layer("encoder.0.0", x, 1)
    low = layer("encoder.1.0", skip, 2)
    up = F.conv_transpose3d(low, p["decoder.0.up.weight"], p["decoder.0.up.bias"], stride=2)
    x = layer("decoder.0.0", torch.cat([up, skip], 1), 1)
    return F.conv3d(x, p["head.0.weight"], p["head.0.bias"])


def soft_dice_loss(probabilities, one_hot, dims):
    tp = (probabilities * one_hot).sum(dims)
    fp = (probabilities * (1 - one_hot)).sum(dims)
    fn = ((1 - probabilities) * one_hot).sum(dims)
    dice = ((2 * tp + SMOOTH) / (2 * tp + fp + fn + SMOOTH))[..., 1:]
    present = ((tp + fn) > 0.5)[..., 1:]
    return 1 - (dice * present).sum(-1) / present.sum(-1)


def losses(p, x, labels, over_batch):
    logits = forward(p, x)
    cross_entropy = F.cross_entropy(logits, labels, reduction="none").mean((1, 2, 3))
    one_hot = F.one_hot(labels, CLASSES).movedim(-1, 1).to(logits.dtype)
    dims = (0, 2, 3, 4) if over_batch else (2, 3, 4)
    return cross_entropy + soft_dice_loss(logits.softmax(1), one_hot, dims)


def batch(size, stream):
    x = tensor((size, CHANNELS, EDGE, EDGE, EDGE), stream, 3.0**0.5)
    u = uniform(size * EDGE**3, stream + 1)
    labels = np.where(u < 0.2, 0, np.where(u < 0.7, 1, 2)).reshape(size, EDGE, EDGE, EDGE)
    return x, torch.tensor(labels)


def main():
    p = parameters()
    weights = torch.ones(5, requires_grad=True)
    training = losses(p, *batch(5, 40_000), over_batch=False)
    gradients = torch.autograd.grad((weights * training).mean(), list(p.values()), create_graph=True)
    ahead = {name: value - RATE * g for (name, value), g in zip(p.items(), gradients)}
    validation = losses(ahead, *batch(3, 50_000), over_batch=True).mean()
    (slope,) = torch.autograd.grad(validation, weights)
    result = {
        "rate": RATE,
        "training_losses": training.tolist(),
        "validation_loss": float(validation.detach()),
        "weight_gradient": slope.tolist(),
    }
    with open(sys.argv[1], "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
