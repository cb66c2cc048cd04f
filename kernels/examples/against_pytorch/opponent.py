"""The opponent of `main.rs`: times one workload in PyTorch and prints one line of JSON.

Usage: opponent.py WORKLOAD [channels-last] [compile] [bf16]

Environment: THREADS; LEAST_RUNS and MEASURE_SECONDS: it is repeated at least so many times and until so many seconds
have passed, after one time less and an eighth of these seconds that do not count.
"""

import json
import os
import resource
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional

torch.set_num_threads(int(os.environ["THREADS"]))
torch.manual_seed(0)
# Feature maps of the levels; channels, classes, batch and edge.
UNETS = {"unet": ((16, 32, 64, 128), 4, 4, 2, 64), "small unet": ((8, 16, 32, 64), 1, 2, 4, 32)}


class NormAndActivation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.InstanceNorm3d(channels, affine=True)

    def forward(self, x):
        return functional.leaky_relu(self.norm(x), 0.01)


def block(channels_in, channels_out, stride=1):
    return nn.Sequential(nn.Conv3d(channels_in, channels_out, 3, stride, 1), NormAndActivation(channels_out))


class UNet(nn.Module):
    def __init__(self, sizes, channels, classes):
        super().__init__()
        self.encoder, self.ups, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        previous = channels
        for level, features in enumerate(sizes):
            self.encoder.append(nn.Sequential(block(previous, features, 1 if level == 0 else 2), block(features, features)))
            previous = features
        for features, deeper in reversed(list(zip(sizes, sizes[1:]))):
            self.ups.append(nn.ConvTranspose3d(deeper, features, 2, 2))
            self.decoder.append(nn.Sequential(block(2 * features, features), block(features, features)))
        self.head = nn.Conv3d(sizes[0], classes, 1)

    def forward(self, x):
        skips = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
        for up, level, skip in zip(self.ups, self.decoder, reversed(skips[:-1])):
            x = level(torch.cat([up(x), skip], 1))
        return self.head(x)


class Layer(nn.Module):
    """Batch norm, PReLU, dropout of whole maps by a mask of zeros and ones, convolution without bias."""

    def __init__(self, channels_in, channels_out, kernel, drop=False, replicate=False, bias=False):
        super().__init__()
        self.norm, self.activation = nn.BatchNorm3d(channels_in), nn.PReLU(channels_in, init=0.01)
        self.convolution = nn.Conv3d(channels_in, channels_out, kernel, bias=bias)
        self.drop, self.replicate = drop, replicate

    def forward(self, x):
        x = self.activation(self.norm(x))
        if self.drop:
            x = x * (torch.rand(x.shape[0], x.shape[1], 1, 1, 1) < 0.5)
        if self.replicate:
            x = functional.pad(x, [1] * 6, mode="replicate")
        return self.convolution(x)


def add_cropped(x, residual):
    margin = (residual.shape[2] - x.shape[2]) // 2
    if margin:
        residual = residual[:, :, margin:-margin, margin:-margin, margin:-margin]
    if residual.shape[1] < x.shape[1]:
        residual = functional.pad(residual, [0] * 7 + [x.shape[1] - residual.shape[1]])
    return x + residual


class Pathway(nn.Module):
    MAPS = (30, 30, 40, 40, 40, 40, 50, 50)

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 1, 1, 1, 1))
        self.first = nn.Conv3d(1, self.MAPS[0], 3, bias=False)
        self.layers = nn.ModuleList(Layer(a, b, 3) for a, b in zip(self.MAPS, self.MAPS[1:]))

    def forward(self, x):
        x = self.first(x + self.bias)
        residual = None
        for number, layer in enumerate(self.layers, 2):
            x = layer(x)
            if number % 2 == 0:
                if residual is not None:
                    x = add_cropped(x, residual)
                residual = x
        return x


class DeepMedic(nn.Module):
    """As published with residual connections, dropout and PReLU; one channel, two classes."""

    FACTORS = (1, 3, 5)

    def __init__(self):
        super().__init__()
        self.pathways = nn.ModuleList(Pathway() for _ in self.FACTORS)
        self.first = Layer(150, 250, 3, replicate=True)
        self.second = Layer(250, 250, 1, drop=True)
        self.last = Layer(250, 2, 1, drop=True, bias=True)

    def forward(self, inputs):
        joined = []
        for x, pathway, factor in zip(inputs, self.pathways, self.FACTORS):
            x = pathway(x)
            if factor > 1:
                for axis in (2, 3, 4):
                    x = x.repeat_interleave(factor, axis)
                size = joined[0].shape[2]
                x = x[:, :, :size, :size, :size]
            joined.append(x)
        joined = torch.cat(joined, 1)
        return self.last(add_cropped(self.second(self.first(joined)), joined))


class ResidualBlock(nn.Module):
    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels_in), nn.BatchNorm2d(channels_out)
        self.convolution1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.convolution2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        differs = channels_in != channels_out
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False) if differs else None

    def forward(self, x):
        active = functional.relu(self.norm1(x), inplace=True)
        y = functional.relu(self.norm2(self.convolution1(active)), inplace=True)
        return self.convolution2(y) + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    def __init__(self):
        super().__init__()
        layers, previous = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)], 16
        for width, stride in [(64, 1), (128, 2), (256, 2)]:
            layers += [ResidualBlock(previous, width, stride), ResidualBlock(width, width, 1)]
            previous = width
        self.layers, self.norm, self.head = nn.Sequential(*layers), nn.BatchNorm2d(256), nn.Linear(256, 10)

    def forward(self, x):
        x = functional.relu(self.norm(self.layers(x)), inplace=True)
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


OPERATORS = {
    "conv 8-8 32": (lambda: nn.Conv3d(8, 8, 3, 1, 1), (2, 8, 32, 32, 32)),
    "conv 16-8 32": (lambda: nn.Conv3d(16, 8, 3, 1, 1), (2, 16, 32, 32, 32)),
    "flat conv 8-8 32": (lambda: nn.Conv3d(8, 8, (3, 3, 1), 1, (1, 1, 0)), (2, 8, 32, 32, 32)),
    "flat conv 32-32 32": (lambda: nn.Conv3d(32, 32, (3, 3, 1), 1, (1, 1, 0)), (2, 32, 32, 32, 32)),
    "conv 32-32 64": (lambda: nn.Conv3d(32, 32, 3, 1, 1), (2, 32, 64, 64, 64)),
    "conv 64-64 32": (lambda: nn.Conv3d(64, 64, 3, 1, 1), (2, 64, 32, 32, 32)),
    "conv 128-128 16": (lambda: nn.Conv3d(128, 128, 3, 1, 1), (2, 128, 16, 16, 16)),
    "conv 4-32 64": (lambda: nn.Conv3d(4, 32, 3, 1, 1), (2, 4, 64, 64, 64)),
    "conv 32-64 stride 2 64": (lambda: nn.Conv3d(32, 64, 3, 2, 1), (2, 32, 64, 64, 64)),
    "transposed 64-32 32": (lambda: nn.ConvTranspose3d(64, 32, 2, 2), (2, 64, 32, 32, 32)),
    "norm 8 32": (lambda: NormAndActivation(8), (2, 8, 32, 32, 32)),
    "norm 32 64": (lambda: NormAndActivation(32), (2, 32, 64, 64, 64)),
}


def until(runs, seconds):
    """Counts at least so many runs and until so many seconds have passed."""
    start = time.perf_counter()
    number = 0
    while number < runs or time.perf_counter() - start < seconds:
        yield number
        number += 1


def measure(run):
    """Medians of wall and processor milliseconds."""
    least, seconds = int(os.environ["LEAST_RUNS"]), float(os.environ["MEASURE_SECONDS"])
    for _ in until(least - 1, seconds / 8):
        run()
    wall, processor = [], []
    for _ in until(least, seconds):
        start, used = time.perf_counter(), time.process_time()
        run()
        wall.append(1e3 * (time.perf_counter() - start))
        processor.append(1e3 * (time.process_time() - used))
    return statistics.median(wall), statistics.median(processor)


def network(name):
    """Network, input or inputs, target."""
    unet = name.rsplit(" ", 1)[0]
    if unet in UNETS:
        sizes, channels, classes, batch, edge = UNETS[unet]
        x, target = torch.randn(batch, channels, edge, edge, edge), torch.randint(0, classes, (batch, edge, edge, edge))
        return UNet(sizes, channels, classes), x, target
    if name.startswith("deepmedic"):
        inputs = [torch.randn(10, 1, size, size, size) for size in (37, 23, 21)]
        return DeepMedic(), inputs, torch.randint(0, 2, (10, 21, 21, 21))
    return WideResNet(), torch.randn(128, 3, 32, 32), torch.randint(0, 10, (128,))


def workload(name, options):
    def laid_out(thing, dimensions):
        """A module or tensor in the memory layout wanted."""
        if "channels-last" not in options:
            return thing
        return thing.to(memory_format=torch.channels_last if dimensions == 4 else torch.channels_last_3d)

    def precision():
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled="bf16" in options)

    if name not in OPERATORS:
        module, x, target = network(name)
        dimensions = 4 if name.startswith("wrn") else 5
        module = laid_out(module, dimensions)
        x = [laid_out(part, dimensions) for part in x] if isinstance(x, list) else laid_out(x, dimensions)
        optimiser = torch.optim.SGD(module.parameters(), lr=1e-2, momentum=0.9)
        run = torch.compile(module) if "compile" in options else module
        if name.endswith("forward"):

            def forward():
                with torch.no_grad(), precision():
                    run(x)

            return forward

        def step():
            optimiser.zero_grad()
            with precision():
                logits = run(x)
            loss = functional.cross_entropy(logits.float(), target)
            loss.backward()
            optimiser.step()
            loss.item()

        return step
    module, shape = OPERATORS[name]
    module = laid_out(module(), 5)
    x = laid_out(torch.randn(shape), 5).requires_grad_()
    run = torch.compile(module) if "compile" in options else module
    with precision():
        gradient = torch.randn_like(run(x))

    def both():
        x.grad = None
        module.zero_grad()
        with precision():
            y = run(x)
        y.backward(gradient)

    return both


name, options = sys.argv[1], set(sys.argv[2:])
unknown = options - {"channels-last", "compile", "bf16"}
if unknown:
    sys.exit(f"unknown options {unknown}")
wall, processor = measure(workload(name, options))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"wall_ms": wall, "processor_ms": processor, "peak_mib": peak}))
