"""Reference values for DeepMedic and wide residual networks, computed by PyTorch in float64.

Weights, inputs and running statistics are hashes of their index, so that both sides make the same ones and the file
holds results alone:

    python tests/reference/make_networks.py tests/data/networks.json
"""

import json
import sys

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
EPSILON = 1e-5


def uniform(length, stream):
    """Numbers in [-1, 1): a hash of (stream, index)."""
    mask = np.uint64(0xFFFFFFFF)
    u = (np.arange(1, length + 1, dtype=np.uint64) * np.uint64(2654435761)) & mask
    u = (u + np.uint64(((stream + 1) * 2246822519) & 0xFFFFFFFF)) & mask
    for _ in range(2):
        u = u ^ (u >> np.uint64(16))
        u = (u * np.uint64(0x45D9F3B)) & mask
    u = u ^ (u >> np.uint64(16))
    return u.astype(np.float64) / 2**31 - 1.0


def tensor(shape, stream, scale=1.0, shift=0.0):
    values = (uniform(int(np.prod(shape)), stream) * scale + shift).astype(np.float32)
    return torch.tensor(values.astype(np.float64).reshape(shape))


class Model:
    """Makes parameters in the order of their first use; a name's end says what it is."""

    def __init__(self, training):
        self.training = training
        self.parameters = {}
        self.buffers = 0

    def get(self, name, shape):
        if name not in self.parameters:
            if len(shape) > 1:
                scale, shift = (6.0 / np.prod(shape[1:])) ** 0.5, 0.0
            elif name.endswith("weight"):
                scale, shift = 0.3, 1.0
            elif name.endswith("slope"):
                scale, shift = 0.1, 0.2
            else:
                scale, shift = 0.3, 0.0
            made = tensor(shape, len(self.parameters), scale, shift)
            self.parameters[name] = made.requires_grad_()
        return self.parameters[name]

    def norm(self, name, x):
        maps = x.shape[1]
        weight, bias = self.get(name + ".weight", (maps,)), self.get(name + ".bias", (maps,))
        if self.training:
            return F.batch_norm(x, None, None, weight, bias, True, 0.0, EPSILON)
        mean = tensor((maps,), 10_000 + self.buffers, 0.3)
        variance = tensor((maps,), 10_001 + self.buffers, 0.5, 1.0)
        self.buffers += 2
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, EPSILON)


class DeepMedic(Model):
    def __init__(self, training, features, hidden, residual, prelu, dropout, scales=(1, 3, 5)):
        super().__init__(training)
        self.features, self.hidden, self.residual = features, hidden, residual
        self.prelu, self.dropout, self.scales = prelu, dropout, scales

    def before(self, name, x):
        x = self.norm(name + ".norm", x)
        if self.prelu:
            return F.prelu(x, self.get(name + ".slope", (x.shape[1],)))
        return F.relu(x)

    @staticmethod
    def add(x, residual):
        cut = [(r - s) // 2 for r, s in zip(residual.shape[2:], x.shape[2:])]
        for axis in range(3):
            residual = residual.narrow(axis + 2, cut[axis], x.shape[axis + 2])
        out = x.clone()
        out[:, : residual.shape[1]] = out[:, : residual.shape[1]] + residual
        return out

    def pathway(self, number, x):
        inputs = []
        for layer, maps in enumerate(self.features):
            name = f"pathway.{number}.{layer}"
            inputs.append(x)
            if layer == 0:
                y = x + self.get(name + ".bias", (x.shape[1],)).view(1, -1, 1, 1, 1)
            else:
                y = self.before(name, x)
            x = F.conv3d(y, self.get(name + ".conv.weight", (maps, y.shape[1], 3, 3, 3)))
            if self.residual and layer in (3, 5, 7):
                x = self.add(x, inputs[layer - 1])
        return x

    def forward(self, segments, classes):
        joined = []
        for number, (segment, scale) in enumerate(zip(segments, self.scales)):
            y = self.pathway(number, segment)
            for axis in (2, 3, 4):
                y = y.repeat_interleave(scale, dim=axis)
            if number > 0:
                size = joined[0].shape
                y = y[:, :, : size[2], : size[3], : size[4]]
            joined.append(y)
        joined = torch.cat(joined, 1)
        x = joined
        for layer, maps in enumerate(list(self.hidden) + [classes]):
            name = f"hidden.{layer}" if layer < len(self.hidden) else "classifier"
            x = self.before(name, x)
            if not self.training:
                x = x * (1.0 - self.dropout[layer])
            kernel = 3 if layer == 0 else 1
            if layer == 0:
                x = F.pad(x, (1,) * 6, mode="replicate")
            x = F.conv3d(x, self.get(name + ".conv.weight", (maps, x.shape[1]) + (kernel,) * 3))
            if self.residual and layer == 1:
                x = self.add(x, joined)
        return x + self.get("classifier.bias", (classes,)).view(1, -1, 1, 1, 1)


class WideResNet(Model):
    def __init__(self, training, blocks, width):
        super().__init__(training)
        self.blocks, self.width = blocks, width

    def conv(self, name, x, maps, kernel, stride):
        weight = self.get(name + ".weight", (maps, x.shape[1], kernel, kernel, 1))
        return F.conv2d(x, weight[..., 0], stride=stride, padding=kernel // 2)

    def forward(self, x, classes):
        x = self.conv("stem", x, 16, 3, 1)
        for group, stride in enumerate((1, 2, 2)):
            maps = (16 * self.width) << group
            for block in range(self.blocks):
                name, step = f"group.{group}.{block}", stride if block == 0 else 1
                normal = F.relu(self.norm(name + ".norm.0", x))
                y = self.conv(name + ".conv.0", normal, maps, 3, step)
                y = F.relu(self.norm(name + ".norm.1", y))
                y = self.conv(name + ".conv.1", y, maps, 3, 1)
                if x.shape[1] != maps:
                    x = self.conv(name + ".shortcut", normal, maps, 1, step)
                x = x + y
        x = F.relu(self.norm("norm", x)).mean((2, 3))
        return F.linear(x, self.get("linear.weight", (classes, x.shape[1])), self.get("linear.bias", (classes,)))


def result(model, logits):
    """The logits of class-last layout, or a sample of them, and the gradients of a weighted sum of all of them."""
    last = logits.movedim(1, -1)
    factor = tensor(tuple(last.shape), 20_000)
    gradients = {}
    if model.training:
        (last * factor).sum().backward()
        for name, parameter in model.parameters.items():
            gradient = parameter.grad.numpy().ravel()
            gradients[name] = {
                "norm": float(np.linalg.norm(gradient)),
                "projection": float(gradient @ uniform(gradient.size, 30_000)),
                "values": [float(v) for v in gradient[:: max(1, gradient.size // 8)][:8]],
            }
    flat = last.detach().numpy().ravel()
    stride = max(1, flat.size // 500)
    return {
        "shape": list(last.shape),
        "stride": stride,
        "logits": [round(float(v), 7) for v in flat[::stride]],
        "norm": float(np.linalg.norm(flat)),
        "projection": float(flat @ uniform(flat.size, 30_000)),
        "gradients": gradients,
    }


def main():
    cases = {}
    default = dict(residual=True, prelu=True, dropout=[0.0, 0.5, 0.5])
    basic = dict(residual=False, prelu=False, dropout=[0.0, 0.0, 0.0])
    narrow = dict(features=[4, 4, 6, 6, 6, 6, 8, 8], hidden=[26, 24])
    full = dict(features=[30, 30, 40, 40, 40, 40, 50, 50], hidden=[250, 250])
    for name, shape, channels, classes, segment, training in [
        ("narrow default training", {**narrow, **default}, 2, 3, (21, 20, 19), True),
        ("narrow default evaluation", {**narrow, **default}, 2, 3, (21, 20, 19), False),
        ("narrow basic training", {**narrow, **basic}, 4, 2, (20, 21, 22), True),
        ("default training", {**full, **default}, 1, 2, (23, 23, 23), True),
    ]:
        output = [edge - 16 for edge in segment]
        sizes = [[-(-edge // scale) + 16 for edge in output] for scale in (1, 3, 5)]
        inputs = [tensor((2, channels, *size), 40_000 + i, 3.0**0.5) for i, size in enumerate(sizes)]
        model = DeepMedic(training, **shape)
        cases[name] = result(model, model.forward(inputs, classes))
        cases[name].update(kind="deepmedic", shape_of=shape, channels=channels, classes=classes)
        cases[name].update(segment=list(segment), training=training)
    for name, blocks, width, training in [
        ("WRN-10-2 training", 1, 2, True),
        ("WRN-16-1 training", 2, 1, True),
        ("WRN-16-1 evaluation", 2, 1, False),
    ]:
        model = WideResNet(training, blocks, width)
        x = tensor((4, 3, 16, 20), 40_000, 3.0**0.5)
        cases[name] = result(model, model.forward(x, 10))
        cases[name].update(kind="wide-resnet", blocks=blocks, width=width, training=training)
    with open(sys.argv[1], "w") as file:
        json.dump(cases, file, indent=None, separators=(",", ":"))
        file.write("\n")


main()
