"""RNN, GRU and LSTM in NumPy and double precision, by the specification's equations; their factors may be quantized
ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .case import Case
from .plain_layers import double, results

Function = Callable[[np.ndarray], np.ndarray]
DEFAULTS: dict[str, tuple[float, float]] = {
    "affine": (1.0, 0.0),
    "leakyrelu": (0.01, 0.0),
    "thresholdedrelu": (1.0, 0.0),
    "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
}
WITH_BETA = ("affine", "scaledtanh", "hardsigmoid")
STANDARD = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


def function(name: str, alpha: float, beta: float) -> Function:
    table: dict[str, Function] = {
        "relu": lambda x: np.maximum(x, 0),
        "tanh": np.tanh,
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "affine": lambda x: alpha * x + beta,
        "leakyrelu": lambda x: np.where(x < 0, alpha * x, x),
        "thresholdedrelu": lambda x: np.where(x > alpha, x, 0),
        "scaledtanh": lambda x: alpha * np.tanh(beta * x),
        "hardsigmoid": lambda x: np.clip(alpha * x + beta, 0, 1),
        "elu": lambda x: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
        "softsign": lambda x: x / (1 + np.abs(x)),
        "softplus": lambda x: np.logaddexp(0, x),
    }
    return table[name]


def functions(case: Case, directions: int) -> list[Function]:
    """The activations of all directions; parameters go to those that have them, in order."""
    given = case.attribute("activations") or STANDARD[case.op.removeprefix("DynamicQuantize")] * directions
    alphas, betas = list(case.attribute("activation_alpha") or []), list(case.attribute("activation_beta") or [])
    found = []
    for item in given:
        name = (item.decode() if isinstance(item, bytes) else item).lower()
        alpha, beta = (float(np.float32(number)) for number in DEFAULTS.get(name, (0.0, 0.0)))
        if name in DEFAULTS and alphas:
            alpha = alphas.pop(0)
        if name in WITH_BETA and betas:
            beta = betas.pop(0)
        found.append(function(name, alpha, beta))
    return found


class Factor:
    """A weight [rows, columns] of a layer, by which rows of its transposed are multiplied."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix.T

    def product(self, x: np.ndarray) -> np.ndarray:
        return x @ self.matrix


# Of a direction, the weights of the input and of the hidden state.
Factors = Callable[[int], tuple[Any, Any]]


class Layer:
    """One direction of a layer: its weights, and a step of several samples."""

    def __init__(self, case: Case, direction: int, activations: list[Function], factors: tuple[Any, Any]) -> None:
        self.op = case.op.removeprefix("DynamicQuantize")
        self.w, self.r = factors
        self.hidden, count = self.r.matrix.shape
        bias = double(case, 3)
        self.w_bias = np.zeros(count) if bias is None else bias[direction, :count]
        self.r_bias = np.zeros(count) if bias is None else bias[direction, count:]
        peepholes = double(case, 7) if self.op == "LSTM" else None
        self.peepholes = np.zeros(3 * self.hidden) if peepholes is None else peepholes[direction]
        threshold = case.attribute("clip")
        # Like onnxruntime, the cell state is not clipped on its way to the last activation of an LSTM.
        bounded = activations[:2]
        self.activations = [self.clipped(one, threshold) for one in bounded] + activations[2:]
        self.linear = case.attribute("linear_before_reset", 0)
        self.coupled = case.attribute("input_forget", 0)

    @staticmethod
    def clipped(inner: Function, threshold: float | None) -> Function:
        return inner if threshold is None else lambda x: inner(np.clip(x, -threshold, threshold))

    def step(self, from_x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next states of rows; `from_x` is the product of their inputs, with its bias."""
        size = self.hidden
        if self.op == "GRU":
            f, g = self.activations
            matrix, last = self.r.matrix, slice(2 * size, None)
            from_h = h @ matrix[:, : 2 * size] + self.r_bias[: 2 * size]
            z, r = np.split(f(from_x[:, : 2 * size] + from_h), 2, axis=1)
            inner = (
                r * (h @ matrix[:, last] + self.r_bias[last])
                if self.linear
                else ((r * h) @ matrix[:, last] + self.r_bias[last])
            )
            return (1 - z) * g(from_x[:, last] + inner) + z * h, c
        from_h = self.r.product(h) + self.r_bias
        if self.op == "RNN":
            return self.activations[0](from_x + from_h), c
        f, g, last_function = self.activations
        i, o, forget, cell = np.split(from_x + from_h, 4, axis=1)
        to_i, to_o, to_f = np.split(self.peepholes, 3)
        i = f(i + to_i * c)
        forget = 1 - i if self.coupled else f(forget + to_f * c)
        new = forget * c + i * g(cell)
        return f(o + to_o * new) * last_function(new), new


def plain_factors(case: Case) -> Factors:
    return lambda direction: (Factor(double(case, 1)[direction]), Factor(double(case, 2)[direction]))


def recurrent(case: Case, factors: Factors | None = None) -> list[Any]:
    """The outputs of RNN, GRU, LSTM and of what has their inputs; the factors are inputs 1 and 2 unless given."""
    factors = factors or plain_factors(case)
    x = double(case, 0)
    layout = case.attribute("layout", 0)
    if layout:
        x = x.swapaxes(0, 1)
    steps, batch = x.shape[:2]
    kind = case.attribute("direction", "forward")
    directions = 2 if kind == "bidirectional" else 1
    chosen = [factors(direction) for direction in range(directions)]
    hidden = chosen[0][1].matrix.shape[0]
    lengths = case.operand(4)
    lengths = np.full(batch, steps) if lengths is None else lengths
    states = []
    for index in (5, 6):
        state = double(case, index) if index == 5 or case.op.endswith("LSTM") else None
        state = np.zeros([directions, batch, hidden]) if state is None else state.swapaxes(0, 1) if layout else state
        states.append(state.copy())
    y = np.zeros([steps, directions, batch, hidden])
    activations = functions(case, directions)
    count = len(STANDARD[case.op.removeprefix("DynamicQuantize")])
    for direction in range(directions):
        layer = Layer(case, direction, activations[direction * count : (direction + 1) * count], chosen[direction])
        backwards = kind == "reverse" or direction == 1
        longest = int(lengths.max(initial=0))
        from_x = layer.w.product(x[:longest].reshape(longest * batch, -1)).reshape(longest, batch, -1) + layer.w_bias
        h, c = states[0][direction], states[1][direction]
        rows = np.arange(batch)
        for turn in range(longest):
            # A sample that has ended goes on, as its numbers count where all are quantized together, but is not looked
            # at.
            runs = lengths > turn
            at = np.where(runs & backwards, lengths - 1 - turn, turn)
            h, c = layer.step(from_x[at, rows], h, c)
            y[at[runs], direction, rows[runs]] = h[runs]
            states[0][direction, runs], states[1][direction, runs] = h[runs], c[runs]
    if layout:
        return results(case, y.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in states))
    return results(case, y, *states)
