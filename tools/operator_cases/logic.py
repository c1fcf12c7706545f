"""Comparisons, logic, bits and selection."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto as T

from . import values as forms
from .broadcasting import broadcast_shapes, legacy_shapes
from .case import Case, generator


def pair(case: Case, elem_type: int, special: bool = True) -> tuple[np.ndarray, np.ndarray, dict]:
    """Operands with many equal elements, and the attributes of old versions."""
    left, right, attributes = legacy_shapes(case) if case.version < 7 else (*broadcast_shapes(case, 2), {})
    low, high = (0 if elem_type in forms.UNSIGNED else -2, 2) if elem_type in forms.INTEGERS else (None, None)
    a = case.values(elem_type, left, low, high, special)
    b = case.values(elem_type, right, low, high, special)
    if case.chance() and elem_type not in (T.STRING, T.BOOL) and forms.is_float(elem_type):
        a, b = (np.round(x.astype(np.float64)).astype(x.dtype) for x in (a, b))
    return a, b, attributes


@generator("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def comparison(case: Case) -> None:
    a, b, attributes = pair(case, case.type("T"))
    case.node([case.input(a, 0.2), case.input(b, 0.3)], [T.BOOL], **attributes)


@generator("And", "Or", "Xor")
def boolean(case: Case) -> None:
    a, b, attributes = pair(case, T.BOOL)
    case.node([case.input(a, 0.2), case.input(b, 0.3)], [T.BOOL], **attributes)


@generator("Not")
def negation(case: Case) -> None:
    case.node([case.input(case.values(T.BOOL, case.shape(high=64)))], [T.BOOL])


def bits(case: Case, elem_type: int, shape: list[int]) -> np.ndarray:
    least, largest = forms.limits(elem_type)
    return case.values(elem_type, shape, least, largest)


@generator("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bitwise(case: Case) -> None:
    elem_type = case.type("T")
    left, right = broadcast_shapes(case, 2)
    case.node(
        [case.input(bits(case, elem_type, left), 0.2), case.input(bits(case, elem_type, right), 0.3)], [elem_type]
    )


@generator("BitwiseNot")
def bitwise_not(case: Case) -> None:
    elem_type = case.type("T")
    case.node([case.input(bits(case, elem_type, case.shape(high=64)))], [elem_type])


@generator("BitShift")
def shift(case: Case) -> None:
    elem_type = case.type("T")
    left, right = broadcast_shapes(case, 2)
    width = forms.dtype_of(elem_type).itemsize * 8
    # Before version 28 a shift by the width or more says nothing.
    low, high = (0, width - 1) if case.version < 28 else (0 if elem_type in forms.UNSIGNED else -3, width + 3)
    amounts = case.values(elem_type, right, low, high)
    case.node(
        [case.input(bits(case, elem_type, left), 0.2), case.input(amounts, 0.5)],
        [elem_type],
        direction=case.pick("LEFT", "RIGHT"),
    )


@generator("IsInf", "IsNaN")
def float_class(case: Case) -> None:
    elem_type = case.type("T1")
    x = case.values(elem_type, case.shape(high=64), special=True)
    if x.size and elem_type in forms.FLOAT8:
        codes = case.values(T.UINT8, list(x.shape), 0, 255)
        x = codes.view(x.dtype)
    attributes = {}
    if case.op == "IsInf":
        attributes = {"detect_negative": case.pick(None, 0, 1), "detect_positive": case.pick(None, 0, 1)}
    case.node([case.input(x, 0.1)], [T.BOOL], **attributes)


@generator("Where")
def where(case: Case) -> None:
    elem_type = case.type("T")
    shapes = broadcast_shapes(case, 3)
    inputs = [case.input(case.values(T.BOOL, shapes[0]), 0.2)]
    inputs += [case.input(case.values(elem_type, shape, special=True), 0.2) for shape in shapes[1:]]
    case.node(inputs, [elem_type])
