"""Quantization: by tensor, by axis, by block."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto as T

from . import values as forms
from .case import Case, NotApplicable, generator


def layout(case: Case, shape: list[int]) -> tuple[list[int], dict]:
    """The shape of scales and zero points, with the attributes that say so."""
    rank = len(shape)
    blocked = "block_size" in case.schema.attributes
    form = case.pick("tensor", "axis", *(["block"] * blocked)) if rank else "tensor"
    if form == "tensor":
        return case.pick([], [], [1] if rank == 1 else []), {}
    axis = case.axis(rank)
    if "axis" not in case.schema.attributes:
        raise NotApplicable("version 10 knows tensors only")
    if form == "axis":
        return [shape[axis]], {"axis": axis if axis % rank != 1 or case.chance() else None}
    block = case.size(1, max(1, shape[axis]))
    scales = list(shape)
    scales[axis] = -(-shape[axis] // block)
    return scales, {"axis": axis, "block_size": block}


def scale_values(case: Case, elem_type: int, shape: list[int]) -> np.ndarray:
    if elem_type == T.INT32:
        return case.values(elem_type, shape, 1, 5)
    if elem_type == T.FLOAT8E8M0:
        return case.values(elem_type, shape)
    # Powers of two and near: quotients that fall on a tie are the same in every precision.
    exact = np.exp2(np.asarray(case.rng.integers(-6, 2, tuple(shape)), np.float64))
    loose = np.asarray(case.rng.uniform(0.01, 0.6, tuple(shape)))
    return (exact if case.chance(0.4) else loose).astype(forms.dtype_of(elem_type))


def zero_points(case: Case, elem_type: int, shape: list[int]) -> np.ndarray:
    if forms.is_float(elem_type) or elem_type == T.INT32:
        return np.zeros(shape, forms.dtype_of(elem_type))
    least, largest = forms.limits(elem_type)
    return case.values(elem_type, shape, max(least, -300), min(largest, 300))


@generator("QuantizeLinear")
def quantize(case: Case) -> None:
    has_types = case.schema.since_version >= 19
    source = case.type("T1")
    scale_type = T.FLOAT if case.version < 23 and not has_types else source
    if any(constraint.type_param_str == "T3" for constraint in case.schema.type_constraints):
        scale_type, target = case.type("T2"), case.type("T3")
    else:
        target = case.type("T2")
    if T.INT32 in (source, scale_type) and source != scale_type and "T1" not in case.forced:
        raise NotApplicable("an integer divided by a float")
    shape = case.shape(high=17)
    scales, attributes = layout(case, shape)
    x = case.values(source, shape) if not case.chance(0.2) else case.values(source, shape, -300, 300)
    points = case.optional(zero_points(case, target, scales), 0.7)
    if points is None:
        if "output_dtype" in case.schema.attributes and (target != T.UINT8 or case.chance()):
            attributes["output_dtype"] = target
        elif target != T.UINT8:
            points = zero_points(case, target, scales)
    elif "output_dtype" in case.schema.attributes:
        attributes["output_dtype"] = case.optional(target)
    if "saturate" in case.schema.attributes and target in forms.FLOAT8:
        attributes["saturate"] = case.pick(None, 0, 1)
    if "precision" in case.schema.attributes and source != T.INT32:
        attributes["precision"] = case.pick(None, None, T.FLOAT, T.FLOAT16, T.BFLOAT16)
    inputs = [case.input(x), case.input(scale_values(case, scale_type, scales), 0.7), case.input(points, 0.7)]
    case.node(inputs, [target], **attributes)


@generator("DequantizeLinear")
def dequantize(case: Case) -> None:
    by_name = {constraint.type_param_str for constraint in case.schema.type_constraints}
    source = case.type("T1" if "T1" in by_name else "T")
    scale_type = case.type("T2") if "T2" in by_name else T.FLOAT
    output = scale_type
    attributes: dict = {}
    if "output_dtype" in case.schema.attributes:
        output = case.type("T3")
        if output != scale_type or case.chance():
            attributes["output_dtype"] = output
    shape = case.shape(high=17)
    scales, more = layout(case, shape)
    if forms.is_float(source):
        x = case.values(source, shape)
    else:
        least, largest = forms.limits(source)
        x = case.values(source, shape, max(least, -40_000), min(largest, 40_000))
    points = case.optional(zero_points(case, source, scales), 0.6)
    if source == T.INT32:
        points = case.optional(points, 0.3)
    inputs = [case.input(x, 0.2), case.input(scale_values(case, scale_type, scales), 0.7), case.input(points, 0.7)]
    case.node(inputs, [output], **attributes, **more)


@generator("DynamicQuantizeLinear")
def dynamic_quantize(case: Case) -> None:
    x = case.values(T.FLOAT, case.shape(low=1, high=33)) * np.float32(case.pick(1, 0.01, 100))
    form = case.pick("mixed", "mixed", "positive", "negative")
    x = {"mixed": x, "positive": np.abs(x), "negative": -np.abs(x)}[form]
    # The elements may fall a step apart where the quotient is near a tie; so may the zero point.
    case.node([case.input(np.asarray(x, np.float32))], [T.UINT8, T.FLOAT, T.UINT8])
