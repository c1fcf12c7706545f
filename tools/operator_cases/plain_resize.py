"""Resize in NumPy and double precision, by the specification; a matrix for every axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto as T

from .case import Case
from .plain_layers import double, results
from .values import INTEGERS, dtype_of, limits


def coordinate(mode: str, place: int, scale: float, extent: int, output: int, region: tuple[float, float]) -> float:
    """Where an output element lies in the input."""
    exact = scale * extent
    if mode == "align_corners":
        return place * (extent - 1) / (exact - 1) if output > 1 and exact != 1 else 0.0
    if mode == "asymmetric":
        return place / scale
    if mode == "tf_crop_and_resize":
        start, end = region
        if output == 1:
            return 0.5 * (start + end) * (extent - 1)
        return start * (extent - 1) + place * (end - start) * (extent - 1) / (output - 1)
    if mode == "pytorch_half_pixel" and output == 1:
        return 0.0
    if mode == "tf_half_pixel_for_nn":
        return (place + 0.5) / scale
    shift = extent / 2 * (1 - output / exact) if mode == "half_pixel_symmetric" else 0.0
    return shift + (place + 0.5) / scale - 0.5


def rounded(mode: str, x: float) -> int:
    table = {
        "round_prefer_floor": math.ceil(x - 0.5),
        "round_prefer_ceil": math.floor(x + 0.5),
        "floor": math.floor(x),
        "ceil": math.ceil(x),
    }
    return table[mode]


def weight(mode: str, distance: float, a: float) -> float:
    d = abs(distance)
    if mode == "linear":
        return max(0.0, 1 - d)
    if d <= 1:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0.0


def matrix(case: Case, extent: int, output: int, scale: float, region: tuple[float, float]) -> tuple[Any, Any]:
    """Weights (output, extent) of one axis, and which outputs lie outside."""
    mode = case.attribute("mode", "nearest")
    transform = case.attribute("coordinate_transformation_mode", "half_pixel")
    excludes = case.attribute("exclude_outside", 0)
    stretch = min(scale, 1.0) if case.attribute("antialias", 0) else 1.0
    weights, outside = np.zeros([output, extent]), np.zeros(output, bool)
    for place in range(output):
        x = float(np.float32(coordinate(transform, place, scale, extent, output, region)))
        outside[place] = transform == "tf_crop_and_resize" and not 0 <= x <= extent - 1
        if mode == "nearest":
            nearest = rounded(case.attribute("nearest_mode", "round_prefer_floor"), x)
            weights[place, min(max(nearest, 0), extent - 1)] = 1
            continue
        reach = math.ceil((2 if mode == "cubic" else 1) / stretch) + 1
        for tap in range(math.floor(x) - reach, math.floor(x) + reach + 1):
            if not excludes or 0 <= tap < extent:
                value = weight(mode, (tap - x) * stretch, case.attribute("cubic_coeff_a", -0.75))
                weights[place, min(max(tap, 0), extent - 1)] += value
        if excludes or stretch != 1:
            weights[place] /= weights[place].sum() or 1
    return weights, outside


def resize(case: Case) -> list[np.ndarray]:
    roi, scales, sizes = (double(case, index) for index in range(1, 4))
    x = np.asarray(case.operand(0))
    x = x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
    axes = [axis % x.ndim for axis in case.attribute("axes") or range(x.ndim)]
    policy = case.attribute("keep_aspect_ratio_policy", "stretch")
    if scales is not None and scales.size:
        factors = list(scales)
        outputs = [math.floor(np.float32(x.shape[axis]) * np.float32(factor)) for axis, factor in zip(axes, factors)]
    else:
        factors = [size / x.shape[axis] for axis, size in zip(axes, sizes)]
        outputs = [int(size) for size in sizes]
        if policy != "stretch":
            factor = (min if policy == "not_larger" else max)(factors)
            factors = [factor] * len(axes)
            outputs = [math.floor(factor * x.shape[axis] + 0.5) for axis in axes]
    outside = np.zeros([1] * x.ndim, bool)
    for position, axis in enumerate(axes):
        region = (0.0, 1.0) if roi is None or not roi.size else (roi[position], roi[position + len(axes)])
        if factors[position] == 1 and case.attribute("coordinate_transformation_mode") != "tf_crop_and_resize":
            continue
        weights, beyond = matrix(case, x.shape[axis], outputs[position], factors[position], region)
        x = np.moveaxis(np.tensordot(weights, x, axes=(1, axis)), 0, axis)
        outside = outside | beyond.reshape([-1 if at == axis else 1 for at in range(x.ndim)])
    y = np.where(outside, case.attribute("extrapolation_value", 0.0), x)
    elem = case.outputs[0].type.tensor_type.elem_type
    if elem in INTEGERS:
        low, high = limits(elem)
        return [np.clip(np.rint(y), low, high).astype(dtype_of(elem))]
    return results(case, y)


def old_resize(case: Case) -> list[np.ndarray]:
    """Upsample, and Resize of version 10: coordinates without a shift, rounded down, or up where an axis shrinks."""
    x = np.asarray(case.operand(0))
    if x.dtype != object:
        x = x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
    scales = double(case, 1)
    if case.op == "Upsample" and case.version < 9:
        image = [case.attribute("height_scale"), case.attribute("width_scale")]
        scales = case.attribute("scales") or [1.0, 1.0, *image]
    linear = case.attribute("mode", "nearest") != "nearest"
    for axis, scale in enumerate(scales):
        extent = x.shape[axis]
        places = np.float32(np.arange(math.floor(np.float32(extent) * np.float32(scale))) / scale)
        near = np.floor(places) if scale >= 1 or linear else np.ceil(places)
        first = np.clip(near.astype(int), 0, extent - 1)
        taken = np.take(x, first, axis=axis)
        if linear:
            shape = [-1 if at == axis else 1 for at in range(x.ndim)]
            rest = np.clip(places, 0, extent - 1).reshape(shape) - first.reshape(shape)
            taken = taken * (1 - rest) + np.take(x, np.minimum(first + 1, extent - 1), axis=axis) * rest
        x = taken
    elem = case.outputs[0].type.tensor_type.elem_type
    return [np.rint(x).astype(dtype_of(elem))] if elem in INTEGERS else results(case, x)


def is_plain(case: Case) -> bool:
    """True if the elements are numbers that arithmetic in double precision keeps."""
    elem = case.outputs[0].type.tensor_type.elem_type
    return elem not in (T.STRING, T.BOOL)
