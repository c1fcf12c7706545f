"""Losses over classes."""

from __future__ import annotations

import numpy as np

from .case import Case, generator


@generator("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(case: Case) -> None:
    elem, index_type = case.type("T"), case.type("Tind")
    batch, classes = case.size(1, 5), case.size(1, 7)
    rest = [case.size(1, 4) for _ in range(case.size(0, min(3, max(0, case.max_rank - 2))))]
    x = case.values(elem, [batch, classes, *rest])
    ignored = case.pick(None, None, 0, classes - 1, -1, classes + 3)
    kind = case.values(index_type, []).dtype
    target = case.rng.integers(0, classes, [batch, *rest]).astype(kind)
    if ignored is not None:
        target = np.where(case.rng.random(target.shape) < 0.3, np.array(ignored, kind), target)
        target.flat[0] = 1 % classes if ignored != 1 % classes else 0
    weight = case.values(elem, [classes], 0.1, 2) if case.chance() else None
    outputs = [elem]
    if case.op == "SoftmaxCrossEntropyLoss" and case.chance(0.5):
        outputs.append(elem)
    case.node(
        [case.input(x), case.input(target), case.input(weight, constant=0.4)],
        outputs=outputs,
        ignore_index=ignored,
        reduction=case.pick(None, "mean", "sum", "none"),
    )
