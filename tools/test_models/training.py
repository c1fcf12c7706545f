"""One step of training: the loss of a small network, its gradients, and what Adam makes of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from test_models import Feeds, TestModel, parse

NAMES = ("W1", "b1", "W2", "b2")
SHAPES = {"W1": (6, 10), "b1": (10,), "W2": (4, 10), "b2": (4,)}
ALPHA, BETA, EPSILON, DECAY = 0.9, 0.99, 1e-3, 0.01

STEP = """
<ir_version: 10, opset_import: ["": 21, "ai.onnx.preview.training": 1]>
training_step (
  float rate, int64 step, float[batch, 6] x, int64[batch] label,
  float[6, 10] W1, float[10] b1, float[4, 10] W2, float[4] b2,
  float[6, 10] W1_v, float[10] b1_v, float[4, 10] W2_v, float[4] b2_v,
  float[6, 10] W1_h, float[10] b1_h, float[4, 10] W2_h, float[4] b2_h
) => (
  float loss,
  float[6, 10] W1_n, float[10] b1_n, float[4, 10] W2_n, float[4] b2_n,
  float[6, 10] W1_vn, float[10] b1_vn, float[4, 10] W2_vn, float[4] b2_vn,
  float[6, 10] W1_hn, float[10] b1_hn, float[4, 10] W2_hn, float[4] b2_hn
)
{
  product = MatMul (x, W1)
  sum = Add (product, b1)
  hidden = Tanh (sum)
  score = Gemm <transB = 1> (hidden, W2, b2)
  loss = SoftmaxCrossEntropyLoss (score, label)
  W1_g, b1_g, W2_g, b2_g = ai.onnx.preview.training.Gradient
    <xs = ["W1", "b1", "W2", "b2"], zs = ["x", "label"], y = "loss"> (W1, b1, W2, b2, x, label)
  W1_n, b1_n, W2_n, b2_n, W1_vn, b1_vn, W2_vn, b2_vn, W1_hn, b1_hn, W2_hn, b2_hn = ai.onnx.preview.training.Adam
    <alpha = 0.9, beta = 0.99, epsilon = 0.001, norm_coefficient = 0.01> (
      rate, step, W1, b1, W2, b2, W1_g, b1_g, W2_g, b2_g, W1_v, b1_v, W2_v, b2_v, W1_h, b1_h, W2_h, b2_h)
}
"""


def step(feeds: Feeds) -> list[Any]:
    """The outputs of the model, in double precision."""
    values = {name: np.asarray(value, np.float64) for name, value in feeds.items() if name != "label"}
    label = feeds["label"]
    rows = np.arange(len(label))
    hidden = np.tanh(values["x"] @ values["W1"] + values["b1"])
    score = hidden @ values["W2"].T + values["b2"]
    odds = np.exp(score - score.max(axis=1, keepdims=True))
    probability = odds / odds.sum(axis=1, keepdims=True)
    loss = -np.log(probability[rows, label]).mean()

    d_score = probability.copy()
    d_score[rows, label] -= 1
    d_score /= len(label)
    d_sum = (d_score @ values["W2"]) * (1 - hidden**2)
    gradients = {
        "W1": values["x"].T @ d_sum,
        "b1": d_sum.sum(axis=0),
        "W2": d_score.T @ hidden,
        "b2": d_score.sum(axis=0),
    }

    count = int(feeds["step"])
    rate = values["rate"]
    if count > 0:
        rate = rate * np.sqrt(1 - BETA**count) / (1 - ALPHA**count)
    weights, firsts, seconds = [], [], []
    for name in NAMES:
        regularized = gradients[name] + DECAY * values[name]
        firsts.append(ALPHA * values[f"{name}_v"] + (1 - ALPHA) * regularized)
        seconds.append(BETA * values[f"{name}_h"] + (1 - BETA) * regularized**2)
        weights.append(values[name] - rate * firsts[-1] / (np.sqrt(seconds[-1]) + EPSILON))
    return [np.asarray(value, np.float32) for value in [loss, *weights, *firsts, *seconds]]


def feeds(batch: int, count: int) -> Feeds:
    random = np.random.default_rng(batch)

    def numbers(*shape: int) -> np.ndarray:
        return random.normal(0, 0.7, shape).astype(np.float32)

    given: Feeds = {
        "rate": np.array(0.05, np.float32),
        "step": np.array(count, np.int64),
        "x": numbers(batch, 6),
        "label": random.integers(0, 4, batch),
    }
    for suffix in ("", "_v", "_h"):
        for name in NAMES:
            value = numbers(*SHAPES[name])
            given[name + suffix] = np.square(value) if suffix == "_h" else value
    return given


def models() -> Iterator[TestModel]:
    cases = [feeds(1, 0), feeds(5, 1), feeds(32, 20)]
    yield TestModel("training_step", parse(STEP), cases, compute=step, tolerance=(1e-4, 1e-5))
