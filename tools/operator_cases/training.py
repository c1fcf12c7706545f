"""Steps of optimizers (ai.onnx.preview.training)."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from .case import Case, generator

DOMAIN = "ai.onnx.preview.training"


def optimizer_inputs(case: Case, states: int) -> tuple[list[str], list[int]]:
    """Learning rate, step, then tensors, gradients and `states` of each; and the types of the results."""
    rate_type, elem = case.type("T1"), case.type("T3")
    tensors = case.size(1, 3)
    shapes = [case.shape(case.rank(0, 3), 1, 5) for _ in range(tensors)]
    inputs = [case.input(case.values(rate_type, [], 0.01, 0.5)), case.input(np.array(case.pick(0, 1, 2, 7), np.int64))]
    for kind in range(2 + states):
        # The last state of Adagrad and Adam is a sum of squares.
        squares = kind == 1 + states and case.op != "Momentum"
        inputs += [case.input(case.values(elem, shape, *((0, 2) if squares else ()))) for shape in shapes]
    return inputs, [elem] * (tensors * (1 + states))


@generator("Adagrad", domain=DOMAIN)
def adagrad(case: Case) -> None:
    inputs, outputs = optimizer_inputs(case, 1)
    case.node(
        inputs,
        outputs=outputs,
        decay_factor=case.pick(None, 0.1),
        epsilon=case.pick(None, 1e-3),
        norm_coefficient=case.pick(None, 0.01),
    )


@generator("Adam", domain=DOMAIN)
def adam(case: Case) -> None:
    inputs, outputs = optimizer_inputs(case, 2)
    case.node(
        inputs,
        outputs=outputs,
        alpha=case.pick(None, 0.8),
        beta=case.pick(None, 0.9),
        epsilon=case.pick(None, 1e-3),
        norm_coefficient=case.pick(None, 0.01),
        norm_coefficient_post=case.pick(None, 0.02),
    )


@generator("Momentum", domain=DOMAIN)
def momentum(case: Case) -> None:
    inputs, outputs = optimizer_inputs(case, 1)
    case.node(
        inputs,
        outputs=outputs,
        alpha=case.pick(0.9, 0.5),
        beta=case.pick(0.8, 1.0),
        mode=case.pick("standard", "nesterov"),
        norm_coefficient=case.pick(0.0, 0.01),
    )


@generator("Gradient", domain=DOMAIN)
def gradient(case: Case) -> None:
    """Of x² times the number of elements of z, by x. No oracle computes it."""
    elem, held = case.type("T2"), case.type("T1")
    case.keeps_ranks = True
    x = case.input(case.values(elem, case.shape(case.rank(0, 3), 1, 5)))
    z = case.input(case.values(held, case.shape(case.rank(0, 3), 1, 5)))
    case.nodes += [
        helper.make_node("Size", [z], ["count"]),
        helper.make_node("CastLike", ["count", x], ["factor"]),
        helper.make_node("Mul", [x, x], ["square"]),
        helper.make_node("Mul", ["square", "factor"], ["y"]),
    ]
    case.node([x, z], outputs=[elem], xs=[x], zs=[z], y="y")
