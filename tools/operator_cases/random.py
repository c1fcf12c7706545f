"""Random operators: with a seed the reference evaluator's numbers, without one only types and shapes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto as T

from .case import Case, generator


def seed(case: Case) -> float | None:
    """A seed half of the time; without one the elements do not count."""
    value = case.optional(float(case.size(0, 40)), 0.6)
    case.compares_values = value is not None
    return value


def parameters(case: Case) -> dict:
    names = ("mean", "scale") if "Normal" in case.op else ("low", "high")
    first = float(np.float32(case.rng.uniform(-3, 3)))
    second = float(np.float32(case.rng.uniform(0.1, 3))) + (first if names[0] == "low" else 0)
    return {names[0]: case.optional(first), names[1]: case.optional(second)} if case.chance(0.8) else {}


@generator("RandomNormal", "RandomUniform")
def drawn(case: Case) -> None:
    elem_type = case.type("T")
    attributes = parameters(case)
    if "high" in attributes and attributes["high"] is None and (attributes["low"] or 0) > 1:
        attributes["low"] = None
    shape = case.shape(case.rank(1), high=33)
    dtype = elem_type if elem_type != T.FLOAT or case.chance() else None
    case.node([], [elem_type], shape=shape, dtype=dtype, seed=seed(case), **attributes)


@generator("RandomNormalLike", "RandomUniformLike")
def drawn_like(case: Case) -> None:
    source, elem_type = case.type("T1"), case.type("T2")
    attributes = parameters(case)
    if "high" in attributes and attributes["high"] is None and (attributes["low"] or 0) > 1:
        attributes["low"] = None
    dtype = elem_type if elem_type != source or case.chance() else None
    case.node(
        [case.input(case.values(source, case.shape(high=33)))], [elem_type], dtype=dtype, seed=seed(case), **attributes
    )


@generator("Bernoulli")
def bernoulli(case: Case) -> None:
    source, elem_type = case.type("T1"), case.type("T2")
    dtype = elem_type if elem_type != source or case.chance() else None
    probabilities = case.values(source, case.shape(high=33), 0, 1)
    if case.chance(0.3):
        probabilities = np.round(probabilities.astype(np.float32)).astype(probabilities.dtype)
    case.node([case.input(probabilities)], [elem_type], dtype=dtype, seed=seed(case))


@generator("Multinomial")
def multinomial(case: Case) -> None:
    source, elem_type = case.type("T1"), case.type("T2")
    dtype = elem_type if elem_type != T.INT32 or case.chance() else None
    x = case.values(source, [case.size(1, 4), case.size(1, 9)])
    case.node([case.input(x)], [elem_type], dtype=dtype, sample_size=case.optional(case.size(1, 12)), seed=seed(case))
    case.compares_values = False  # the reference evaluator has no Multinomial, and nothing says how it draws


@generator("Dropout")
def dropout(case: Case) -> None:
    elem_type = case.type("T")
    x = case.values(elem_type, case.shape(high=33))
    mask_type = elem_type if case.version < 10 else T.BOOL
    outputs = [elem_type] + ([mask_type] if case.chance() else [])
    if case.version < 12:
        attributes = {"ratio": case.optional(float(np.float32(case.rng.uniform(0, 1))))}
        if case.version < 7:
            # In training mode versions 1 and 6 draw without a seed.
            attributes["is_test"] = case.pick(0, 1) if case.chance(0.2) else 1
            case.compares_values = attributes["is_test"] == 1
            if attributes["is_test"]:
                outputs = outputs[:1]
        case.node([case.input(x)], outputs, **attributes)
        return
    ratio = case.optional(case.values(case.type("T1"), [], 0, 0.9))
    if ratio is not None and case.chance(0.2):
        ratio = np.zeros_like(ratio)
    training = case.optional(np.array(case.chance()))
    number = case.optional(case.size(0, 40))
    random = training is not None and bool(training) and (ratio is None or float(ratio) > 0)
    case.compares_values = number is not None or not random
    case.node([case.input(x), case.input(ratio, 0.5), case.input(training, 0.5)], outputs, seed=number)
