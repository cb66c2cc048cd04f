"""The opponent of `main.rs`: times one workload in PyTorch and prints one line of JSON.

Usage: opponent.py WORKLOAD [channels-last] [compile]
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
FEATURES = (16, 32, 64, 128)


class NormAndActivation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.InstanceNorm3d(channels, affine=True)

    def forward(self, x):
        return functional.leaky_relu(self.norm(x), 0.01)


def block(channels_in, channels_out, stride=1):
    return nn.Sequential(nn.Conv3d(channels_in, channels_out, 3, stride, 1), NormAndActivation(channels_out))


class UNet(nn.Module):
    def __init__(self, channels=4, classes=4):
        super().__init__()
        self.encoder, self.ups, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        previous = channels
        for level, features in enumerate(FEATURES):
            self.encoder.append(nn.Sequential(block(previous, features, 1 if level == 0 else 2), block(features, features)))
            previous = features
        for features, deeper in reversed(list(zip(FEATURES, FEATURES[1:]))):
            self.ups.append(nn.ConvTranspose3d(deeper, features, 2, 2))
            self.decoder.append(nn.Sequential(block(2 * features, features), block(features, features)))
        self.head = nn.Conv3d(FEATURES[0], classes, 1)

    def forward(self, x):
        skips = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
        for up, level, skip in zip(self.ups, self.decoder, reversed(skips[:-1])):
            x = level(torch.cat([up(x), skip], 1))
        return self.head(x)


OPERATORS = {
    "conv 32-32 64": (lambda: nn.Conv3d(32, 32, 3, 1, 1), (2, 32, 64, 64, 64)),
    "conv 64-64 32": (lambda: nn.Conv3d(64, 64, 3, 1, 1), (2, 64, 32, 32, 32)),
    "conv 128-128 16": (lambda: nn.Conv3d(128, 128, 3, 1, 1), (2, 128, 16, 16, 16)),
    "conv 4-32 64": (lambda: nn.Conv3d(4, 32, 3, 1, 1), (2, 4, 64, 64, 64)),
    "conv 32-64 stride 2 64": (lambda: nn.Conv3d(32, 64, 3, 2, 1), (2, 32, 64, 64, 64)),
    "transposed 64-32 32": (lambda: nn.ConvTranspose3d(64, 32, 2, 2), (2, 64, 32, 32, 32)),
    "norm 32 64": (lambda: NormAndActivation(32), (2, 32, 64, 64, 64)),
}


def measure(run, repetitions=5, warm=2):
    """Medians of wall and processor milliseconds."""
    for _ in range(warm):
        run()
    wall, processor = [], []
    for _ in range(repetitions):
        start, used = time.perf_counter(), time.process_time()
        run()
        wall.append(1e3 * (time.perf_counter() - start))
        processor.append(1e3 * (time.process_time() - used))
    return statistics.median(wall), statistics.median(processor)


def workload(name, options):
    layout = torch.channels_last_3d if "channels-last" in options else torch.contiguous_format
    if name.startswith("unet"):
        network = UNet().to(memory_format=layout)
        x = torch.randn(2, 4, 64, 64, 64).to(memory_format=layout)
        target = torch.randint(0, 4, (2, 64, 64, 64))
        optimiser = torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.9)
        run = torch.compile(network) if "compile" in options else network
        if name == "unet forward":

            def forward():
                with torch.no_grad():
                    run(x)

            return forward

        def step():
            optimiser.zero_grad()
            loss = functional.cross_entropy(run(x), target)
            loss.backward()
            optimiser.step()
            loss.item()

        return step
    module, shape = OPERATORS[name]
    module = module().to(memory_format=layout)
    x = torch.randn(shape).to(memory_format=layout).requires_grad_()
    run = torch.compile(module) if "compile" in options else module
    gradient = torch.randn_like(run(x))

    def both():
        x.grad = None
        module.zero_grad()
        run(x).backward(gradient)

    return both


name, options = sys.argv[1], set(sys.argv[2:])
wall, processor = measure(workload(name, options))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"wall_ms": wall, "processor_ms": processor, "peak_mib": peak}))
