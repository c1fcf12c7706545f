"""Conversions between element types."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto as T

from . import values as forms
from .case import Case, NotApplicable, generator

NUMBERS = (
    "0",
    "1",
    "-1",
    "2.5",
    "-0.125",
    "1e3",
    "1.5E-2",
    "100.5",
    "3.14159",
    "INF",
    "-inf",
    "+INF",
    "NaN",
    "nan",
    "-0",
)
WHOLE = ("0", "1", "-1", "7", "100", "-128", "42")


def source(case: Case, elem_type: int, target: int, shape: list[int]) -> np.ndarray:
    """Elements whose conversion to the target is defined."""
    if elem_type == T.STRING:
        words = NUMBERS if forms.is_float(target) else WHOLE
        if target in forms.UNSIGNED:
            words = tuple(word for word in words if "-" not in word)
        if target in forms.NARROW_INTEGERS:
            words = ("0", "1")
        chosen = [case.pick(*words) for _ in range(int(np.prod(shape, dtype=np.int64)))]
        return np.array(chosen, dtype=object).reshape(shape)
    if elem_type in forms.INTEGERS:
        least, largest = forms.limits(elem_type)
        if case.chance():
            least, largest = max(least, -100), min(largest, 100)
        return case.values(elem_type, shape, least, largest)
    if not forms.is_float(elem_type):
        return case.values(elem_type, shape)
    if target in forms.INTEGERS:
        # What does not fit is undefined.
        least, largest = forms.limits(target)
        return case.values(elem_type, shape, max(least, -120), min(largest, 120))
    if elem_type in forms.NARROW_FLOATS and elem_type != T.FLOAT8E8M0:
        bits = forms.ml_dtypes.finfo(forms.dtype_of(elem_type)).bits
        codes = case.values(T.UINT8, shape, 0, (1 << bits) - 1)
        return codes.view(forms.dtype_of(elem_type))
    scale = case.pick(1.0, 1.0, 1e-3, 100.0, 1e4)
    special = target not in (T.STRING, T.FLOAT8E8M0)
    values = case.values(elem_type, shape, special=special)
    if elem_type != T.FLOAT8E8M0:
        values = (values.astype(np.float64) * scale).astype(values.dtype)
    return np.abs(values) if target == T.FLOAT8E8M0 else values


def conversion_attributes(case: Case, target: int) -> dict:
    attributes = {}
    if "saturate" in case.schema.attributes and target in forms.FLOAT8:
        attributes["saturate"] = case.pick(None, 0, 1)
    if "round_mode" in case.schema.attributes and target == T.FLOAT8E8M0:
        attributes["round_mode"] = case.pick(None, "up", "down", "nearest")
    return attributes


def check(case: Case, elem_type: int, target: int) -> None:
    """Leaves out conversions of which nothing says what they give."""
    if T.FLOAT8E8M0 in (elem_type, target) and not all(map(forms.is_float, (elem_type, target))):
        raise NotApplicable("float8e8m0 to or from what is no float")


@generator("Cast")
def cast(case: Case) -> None:
    elem_type, target = case.type("T1"), case.type("T2")
    check(case, elem_type, target)
    x = source(case, elem_type, target, case.shape(high=33))
    to = T.DataType.Name(target) if case.version == 1 else target
    case.node([case.input(x, 0.2)], [target], to=to, **conversion_attributes(case, target))


@generator("CastLike")
def cast_like(case: Case) -> None:
    elem_type, target = case.type("T1"), case.type("T2")
    check(case, elem_type, target)
    x = source(case, elem_type, target, case.shape(high=33))
    like = case.values(target, case.shape(case.size(0, 2)))
    case.node([case.input(x, 0.2), case.input(like, 0.2)], [target], **conversion_attributes(case, target))


def bits_of(elem_type: int) -> int:
    if elem_type == T.BOOL:
        return 8
    if elem_type in forms.INTEGERS:
        return int(forms.ml_dtypes.iinfo(forms.dtype_of(elem_type)).bits)
    if elem_type in forms.COMPLEX:
        return forms.dtype_of(elem_type).itemsize * 8
    return int(forms.ml_dtypes.finfo(forms.dtype_of(elem_type)).bits)


@generator("BitCast")
def bit_cast(case: Case) -> None:
    elem_type = case.type("T1")
    numbers = [forms.ELEMENT_TYPES[text] for text in case.allowed("T2")]
    target = case.type("T2", only=[number for number in numbers if bits_of(number) == bits_of(elem_type)])
    x = case.values(elem_type, case.shape(high=33))
    if T.BOOL in (elem_type, target) and forms.dtype_of(elem_type).itemsize == 1:
        x = case.values(T.UINT8, list(x.shape), 0, 1).view(forms.dtype_of(elem_type))
    case.node([case.input(x)], [target], to=target)
