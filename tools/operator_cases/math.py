"""Element-wise arithmetic, elementary functions and activations."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto as T

from . import values as forms
from .broadcasting import broadcast_shapes, legacy_shapes, shape_within
from .case import Case, generator


def legacy(case: Case) -> dict:
    """consumed_inputs, which says nothing, where the version has it."""
    has = case.schema is not None and "consumed_inputs" in case.schema.attributes
    return {"consumed_inputs": [0]} if has and case.chance(0.3) else {}


def data(
    case: Case, elem_type: int, shape: list[int], low: float | None = None, high: float | None = None
) -> np.ndarray:
    """Elements over a range that goes from small to large."""
    if forms.is_float(elem_type) and low is None and high is None and case.chance(0.3):
        return (case.values(T.DOUBLE, shape) * case.pick(1e-3, 10.0, 60.0)).astype(forms.dtype_of(elem_type))
    return case.values(elem_type, shape, low, high, special=True)


@generator(
    "Abs",
    "Neg",
    "Sign",
    "Ceil",
    "Floor",
    "Round",
    "Sqrt",
    "Reciprocal",
    "Exp",
    "Log",
    "Sin",
    "Cos",
    "Tan",
    "Sinh",
    "Cosh",
    "Tanh",
    "Asinh",
    "Erf",
    "Sigmoid",
    "Relu",
    "Softplus",
    "Softsign",
    "Mish",
    "HardSwish",
    "Atan",
)
def unary(case: Case) -> None:
    elem_type = case.type("T")
    x = data(case, elem_type, case.shape(high=64))
    if case.op in ("Sin", "Cos", "Tan") and np.issubdtype(x.dtype, np.floating):
        # Reduction of huge arguments is not what the oracles agree on.
        x = np.where(np.isfinite(x) & (np.abs(x) > 1e4), np.asarray(1, x.dtype), x)
    if case.op == "Round" and forms.is_float(elem_type) and case.chance():
        x = (np.round(x.astype(np.float64)) + 0.5).astype(x.dtype)
    case.node([case.input(x, 0.1)], [elem_type], **legacy(case))


@generator("Acos", "Asin", "Atanh", "Acosh")
def bounded(case: Case) -> None:
    elem_type = case.type("T")
    low, high = (1.0, 40.0) if case.op == "Acosh" else (-1.0, 1.0)
    if case.chance(0.1):
        low, high = -3.0, 3.0
    case.node(
        [case.input(case.values(elem_type, case.shape(high=64), low, high, special=case.chance(0.3)), 0.1)], [elem_type]
    )


@generator("Elu", "Selu", "Celu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Swish", "Gelu", "Shrink")
def parametrized(case: Case) -> None:
    elem_type = case.type("T")
    attributes = legacy(case)
    ranges = {
        "Elu": {"alpha": (0, 3)},
        "Selu": {"alpha": (0, 3), "gamma": (0.1, 3)},
        "Celu": {"alpha": (0.2, 3)},
        "LeakyRelu": {"alpha": (-1, 2)},
        "ThresholdedRelu": {"alpha": (-1, 2)},
        "HardSigmoid": {"alpha": (0.05, 1), "beta": (-1, 1)},
        "Swish": {"alpha": (-1, 3)},
        "Gelu": {},
        "Shrink": {"lambd": (0, 3), "bias": (-2, 2)},
    }
    for name, (low, high) in ranges[case.op].items():
        attributes[name] = case.optional(float(np.float32(case.rng.uniform(low, high))), 0.6)
    if case.op == "Gelu":
        attributes["approximate"] = case.pick(None, "none", "tanh")
    if case.op == "Shrink" and elem_type in forms.INTEGERS and attributes["bias"]:
        attributes["bias"] = float(round(attributes["bias"]))
    x = data(case, elem_type, case.shape(high=64))
    if elem_type in forms.INTEGERS:
        # Of a bias beyond the range of integers nothing says what it gives.
        x = case.values(elem_type, list(x.shape), 4 if elem_type in forms.UNSIGNED else -30, 30)
    case.node([case.input(x, 0.1)], [elem_type], **attributes)


@generator("Add", "Sub", "Mul", "Div")
def arithmetic(case: Case) -> None:
    elem_type = case.type("T")
    attributes = legacy(case)
    if case.version < 7:
        left, right, more = legacy_shapes(case)
        attributes |= more
    else:
        left, right = broadcast_shapes(case, 2)
    a, b = case.values(elem_type, left, special=True), case.values(elem_type, right, special=case.op != "Div")
    if case.op == "Div" and elem_type in forms.INTEGERS and case.chance(0.9):
        b = np.where(b == 0, np.asarray(3, b.dtype), b)
    case.node([case.input(a, 0.2), case.input(b, 0.3)], [elem_type], **attributes)


@generator("Mod")
def modulo(case: Case) -> None:
    elem_type = case.type("T")
    left, right = broadcast_shapes(case, 2)
    a, b = (
        case.values(elem_type, left, -50 if elem_type not in forms.UNSIGNED else 0, 50),
        case.values(elem_type, right),
    )
    if elem_type in forms.INTEGERS and case.chance(0.9):
        b = np.where(b == 0, np.asarray(3, b.dtype), b)
    fmod = 1 if forms.is_float(elem_type) and case.version < 28 else case.pick(None, 0, 1)
    case.node([case.input(a, 0.2), case.input(b, 0.3)], [elem_type], fmod=fmod)


@generator("Pow")
def power(case: Case) -> None:
    base_type = case.type("T")
    exponent_type = base_type if case.version < 12 else case.type("T1")
    left, right, attributes = legacy_shapes(case) if case.version < 7 else (*broadcast_shapes(case, 2), {})
    if case.chance(0.3) and case.version >= 7:
        right = case.pick([], [1])
    base = case.values(base_type, left, -4 if base_type not in forms.UNSIGNED else 0, 4)
    if exponent_type in forms.INTEGERS or case.chance():
        low = 0 if base_type in forms.INTEGERS or exponent_type in forms.UNSIGNED else -3
        exponent = case.integers(right, low, 5).astype(forms.dtype_of(exponent_type))
        if exponent_type not in forms.UNSIGNED and low < 0:
            base = np.where(base == 0, np.asarray(1, base.dtype), base)
    else:
        exponent = (case.integers(right, -4, 7) / 2).astype(forms.dtype_of(exponent_type))
        base = np.abs(base) + np.asarray(1, base.dtype)
        if base_type in forms.INTEGERS:
            exponent = np.abs(exponent)
    case.node([case.input(base, 0.1), case.input(exponent, 0.5)], [base_type], **attributes)


@generator("Max", "Min", "Sum", "Mean")
def variadic(case: Case) -> None:
    elem_type = case.type("T")
    count = case.size(1, 4)
    if case.version < 8:
        shapes = [case.shape(high=17)] * count
    else:
        shapes = broadcast_shapes(case, count)
    inputs = [case.input(case.values(elem_type, shape, special=True), 0.2) for shape in shapes]
    case.node(inputs, [elem_type], **legacy(case))


@generator("Clip")
def clip(case: Case) -> None:
    elem_type = case.type("T")
    x = case.values(elem_type, case.shape(high=64), special=True)
    low, high = case.optional(case.values(elem_type, [], -3, 1)), case.optional(case.values(elem_type, [], 0, 4))
    if case.version < 11:
        bounds = {"min": None if low is None else float(low), "max": None if high is None else float(high)}
        case.node([case.input(x)], [elem_type], **bounds, **legacy(case))
        return
    constant = case.pick(True, False, 0.5)
    case.node([case.input(x, 0.1), case.input(low, constant), case.input(high, constant)], [elem_type])


@generator("CumSum", "CumProd")
def cumulative(case: Case) -> None:
    elem_type, index_type = case.type("T"), case.type("T2")
    shape = case.shape(case.rank(1), high=33)
    x = case.values(elem_type, shape, -2 if elem_type not in forms.UNSIGNED else 0, 2)
    # Versions 11 and 14 of CumSum allow an axis of shape [1] as well.
    axis = np.array(case.axis(len(shape)), forms.dtype_of(index_type)).reshape(
        case.pick([], [], [1]) if case.op == "CumSum" else []
    )
    if case.op == "CumProd" and elem_type in (T.FLOAT16, T.BFLOAT16):
        x = (np.sign(x.astype(np.float32)) * case.pick(1, 0.5)).astype(x.dtype)
    case.node(
        [case.input(x, 0.1), case.input(axis, 0.7)],
        [elem_type],
        exclusive=case.pick(None, 0, 1),
        reverse=case.pick(None, 0, 1),
    )


@generator("PRelu")
def prelu(case: Case) -> None:
    elem_type = case.type("T")
    shape = case.shape(high=17)
    slope = shape_within(case, shape)
    if case.version < 7:
        # One slope, or one a channel.
        case.keeps_ranks = True
        shape = shape or [3]
        slope = [1] if len(shape) < 2 or case.chance(0.3) else [shape[1]]
    x = case.values(elem_type, shape)
    case.node([case.input(x), case.input(case.values(elem_type, slope), 0.6)], [elem_type], **legacy(case))


@generator("SwiGLU")
def swiglu(case: Case) -> None:
    elem_type = case.type("T")
    shape = case.shape(high=64)
    inputs = [case.input(data(case, elem_type, shape), 0.1), case.input(case.values(elem_type, shape), 0.1)]
    case.node(inputs, [elem_type], alpha=case.optional(float(np.float32(case.rng.uniform(-1, 3)))))
