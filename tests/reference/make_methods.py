"""Reference values for tests/it/method.rs, by PyTorch in float64 from the published formulas: losses with margin,
focal attenuation, class weights and mixed labels, and the adversarial and mixup passes of a small U-Net.

Weights, inputs and labels are the hashes of tests/reference/make_networks.py, so that the file holds results alone:

    python tests/reference/make_methods.py tests/data/methods.json
"""

import itertools
import json
import sys

import numpy as np
import torch

from make_meta import EDGE, forward, parameters
from make_networks import tensor, uniform

SMOOTH = 1e-5
BATCH, SHAPE = 2, (2, 3, 4)
IGNORED = 255


def numbers(t):
    return [float(f"{v:.9g}") for v in t.detach().flatten().tolist()]


def labels(classes, stream, shape=SHAPE):
    u = (uniform(BATCH * int(np.prod(shape)), stream) + 1) / 2
    drawn = np.minimum((u * classes).astype(np.int64), classes - 1)
    if classes == 5:
        drawn[drawn == 3] = 0  # a class that is absent
    return torch.tensor(drawn.reshape(BATCH, *shape))


def one_hot(label, classes):
    return torch.nn.functional.one_hot(label, classes).movedim(-1, 1).double()


def loss_of(logits, y, valid, c):
    """The loss of soft labels y, (batch, class, x, y, z); voxels that are not valid have no part in it."""
    classes = y.shape[1]
    row = lambda name, default: torch.tensor(c[name] or [default] * classes).double().view(1, -1, 1, 1, 1)
    y = y * valid
    z = logits - row("margin", 0.0) * y
    log_q = torch.log_softmax(z, 1)
    q = torch.softmax(z, 1)
    log = log_q if c["epsilon"] == 0 else torch.log(q + c["epsilon"])
    focal = row("focal", 0.0)
    a = torch.where(focal > 0, (1 - q + c["epsilon"]) ** focal.clamp(min=1.0), torch.ones_like(q))
    ce = -(row("weight", 1.0) * y * a * log).sum((1, 2, 3, 4)) / valid.sum((1, 2, 3, 4))
    dims = (2, 3, 4)
    tp, fp = (q * y).sum(dims), (q * (1 - y) * valid).sum(dims)
    fn, fn_w = ((1 - q) * y).sum(dims), ((1 - q) * y * a).sum(dims)
    if c["reduction"] == "batch":
        tp, fp, fn, fn_w = (t.sum(0, keepdim=True) for t in (tp, fp, fn, fn_w))
    b2 = c["beta"] ** 2
    above = fp + b2 * fn_w + (SMOOTH if c["absent"] == "constant" else 0.0)
    e = above / ((1 + b2) * tp + fp + b2 * fn + SMOOTH)
    counted = (tp + fn > 0) if c["absent"] == "leave" else torch.ones_like(tp, dtype=torch.bool)
    if c["mean"] == "foreground":
        e, counted = e[:, 1:], counted[:, 1:]
    dice = (e * counted).sum(1) / counted.sum(1).clamp(min=1)
    return (c["cross_entropy"] * ce).mean() + (c["dice"] * dice).mean()


def case(classes, stream, share=None, ignored=False, **changes):
    c = {
        "classes": classes, "stream": stream, "share": share, "ignored": ignored, "margin": [], "focal": [],
        "weight": [], "epsilon": 0.0, "cross_entropy": 1.0, "dice": 1.0, "beta": 1.0, "reduction": "sample",
        "mean": "foreground", "absent": "leave", **changes,
    }
    logits = tensor((BATCH, classes, *SHAPE), stream, 4.0).requires_grad_()
    first, second = labels(classes, stream + 1), labels(classes, stream + 2)
    valid = torch.ones(BATCH, 1, *SHAPE).double()
    if ignored:
        valid.view(-1)[::7] = 0
    y = one_hot(first, classes)
    if share is not None:
        y = share * y + (1 - share) * one_hot(second, classes)
    loss = loss_of(logits, y, valid, c)
    loss.backward()
    return {**c, "loss": loss.item(), "gradient": numbers(logits.grad)}


def losses():
    cases = []
    for classes, stream in zip([2, 3, 5], [70_000, 71_000, 72_000]):
        asymmetric = [0.0] * (classes - 1) + [1.0]
        background = [2.0] * (classes - 1) + [0.0]
        weight = [0.5 + i for i in range(classes)]
        add = lambda **changes: cases.append(case(classes, stream + 10 * len(cases), **changes))
        add()
        add(margin=[1.0] * classes, dice=0.0)
        add(margin=asymmetric, ignored=True)
        add(focal=[4.0] * classes, dice=0.0)
        add(focal=background, reduction="batch")
        add(focal=background, margin=asymmetric, weight=weight, ignored=True)
        add(share=0.3)
        add(share=0.7, margin=[0.5] * classes, focal=[2.5] * classes, ignored=True)
        for beta in [1.0, 2.0, 4.0, 8.0]:
            add(beta=beta, cross_entropy=0.0, reduction="batch")
        # As published: epsilon in the logarithm and the base, and constants for absent classes.
        add(focal=[4.0] * classes, margin=asymmetric, epsilon=1e-6, absent="constant", reduction="batch")
        add(epsilon=1e-6, mean="all-classes", absent="stay", reduction="batch", cross_entropy=0.0)
    return cases


def normalised(v):
    v = v / (1e-12 + v.abs().amax((1, 2, 3, 4), keepdim=True))
    return v / torch.sqrt(1e-6 + (v**2).sum((1, 2, 3, 4), keepdim=True))


PLAIN = {
    "margin": [], "focal": [], "weight": [], "epsilon": 0.0, "cross_entropy": 1.0, "dice": 1.0, "beta": 1.0,
    "reduction": "sample", "mean": "foreground", "absent": "leave",
}


def scene():
    """Weights, input and labels: class 2 is rare, and the last sample has none of it."""
    p = parameters()
    x = tensor((3, 2, EDGE, EDGE, EDGE), 60_000, 3**0.5)
    u = uniform(3 * EDGE**3, 60_001)
    label = np.where(u < 0.2, 0, np.where(u < 0.7, 1, 2))
    label[2 * EDGE**3 :][label[2 * EDGE**3 :] == 2] = 1
    return p, x, torch.tensor(label.reshape(3, EDGE, EDGE, EDGE))


def passes(p, loss):
    loss.backward()
    norms = {name: float(t.grad.norm()) for name, t in p.items()}
    return {"loss": loss.item(), "norms": norms, "head": numbers(p["head.0.weight"].grad)}


def adversarial(mode):
    p, x, label = scene()
    y = one_hot(label, 3)
    part = y * torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1, 1) if mode == "asymmetric" else y
    x = x.requires_grad_()
    direction = -(part * torch.log_softmax(forward(p, x), 1)).sum() / label.numel()
    (gradient,) = torch.autograd.grad(direction, x)
    moved = (x + 2.0 * normalised(gradient)).detach()
    valid = torch.ones(3, 1, EDGE, EDGE, EDGE).double()
    found = passes(p, loss_of(forward(p, moved), y, valid, PLAIN))
    return {"mode": mode, "moved": numbers(moved[:, :, 3, 2, :]), "direction": direction.item(), **found}


def mixup(mode, share):
    p, x, label = scene()
    order = torch.tensor([2, 1, 0])
    mixed, other = share * x + (1 - share) * x[order], label[order]
    valid = torch.ones(3, 1, EDGE, EDGE, EDGE).double()
    if mode == "symmetric":
        y = share * one_hot(label, 3) + (1 - share) * one_hot(other, 3)
        loss = loss_of(forward(p, mixed), y, valid, PLAIN)
    else:
        margin = 0.2
        rare = lambda t: t == 2
        a = torch.where((share < 1 - margin) & rare(other) & ~rare(label), other, label)
        b = torch.where((1 - share < 1 - margin) & rare(label) & ~rare(other), label, other)
        labelled = (a == b).double().unsqueeze(1)
        # Voxels without a label count in the mean of the cross-entropy, and have no part in the Dice.
        y = one_hot(a, 3)
        logits = forward(p, mixed)
        ce = loss_of(logits, y, labelled, {**PLAIN, "dice": 0.0})
        per_sample = -(y * labelled * torch.log_softmax(logits, 1)).sum((1, 2, 3, 4)) / label[0].numel()
        dice = loss_of(logits, y, labelled, {**PLAIN, "cross_entropy": 0.0})
        assert ce > per_sample.mean()
        loss = per_sample.mean() + dice
    return {"mode": mode, "share": share, **passes(p, loss)}


if __name__ == "__main__":
    made = {
        "losses": losses(),
        "adversarial": [adversarial("symmetric"), adversarial("asymmetric")],
        "mixup": [mixup(m, s) for m, s in itertools.product(["symmetric", "asymmetric"], [0.1, 0.6])],
    }
    with open(sys.argv[1], "w") as file:
        json.dump(made, file)
        file.write("\n")
