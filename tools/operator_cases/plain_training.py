"""Steps of optimizers in NumPy and double precision, by the specification."""

from __future__ import annotations

import math

import numpy as np

from .case import Case
from .plain_layers import double, results


def optimizer(case: Case) -> list[np.ndarray]:
    """Adagrad, Adam and Momentum: new tensors first, then their states in the order of the inputs."""
    kinds = 4 if case.op == "Adam" else 3
    rate, step = double(case, 0), int(case.operand(1))
    count = (len(case.under_test.input) - 2) // kinds
    groups = [[double(case, 2 + kind * count + index) for kind in range(kinds)] for index in range(count)]
    steps = {"Adagrad": adagrad, "Adam": adam, "Momentum": momentum}
    moved = [steps[case.op](case, rate, step, *group) for group in groups]
    return results(case, *(tensors[kind] for kind in range(kinds - 1) for tensors in moved))


def adagrad(
    case: Case, rate: np.ndarray, step: int, x: np.ndarray, g: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, ...]:
    g = case.attribute("norm_coefficient", 0.0) * x + g
    h = h + g * g
    slower = rate / (1 + step * case.attribute("decay_factor", 0.0))
    return x - slower * g / (np.sqrt(h) + case.attribute("epsilon", 1e-6)), h


def adam(
    case: Case,
    rate: np.ndarray,
    step: int,
    x: np.ndarray,
    g: np.ndarray,
    v: np.ndarray,
    h: np.ndarray,
) -> tuple[np.ndarray, ...]:
    alpha, beta = case.attribute("alpha", 0.9), case.attribute("beta", 0.999)
    g = case.attribute("norm_coefficient", 0.0) * x + g
    v, h = alpha * v + (1 - alpha) * g, beta * h + (1 - beta) * g * g
    if step > 0:
        rate = rate * math.sqrt(1 - beta**step) / (1 - alpha**step)
    x = x - rate * v / (np.sqrt(h) + case.attribute("epsilon", 1e-6))
    return (1 - case.attribute("norm_coefficient_post", 0.0)) * x, v, h


def momentum(
    case: Case, rate: np.ndarray, step: int, x: np.ndarray, g: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, ...]:
    alpha = case.attribute("alpha")
    g = case.attribute("norm_coefficient") * x + g
    v = alpha * v + (case.attribute("beta") if step > 0 else 1) * g
    return x - rate * (g + alpha * v if case.attribute("mode") == "nesterov" else v), v
