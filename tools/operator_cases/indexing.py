"""Operators that gather and scatter elements."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from .case import Case, generator
from .tensor import moved, numpy_type

UNORDERED = frozenset({TensorProto.STRING, TensorProto.BOOL, TensorProto.COMPLEX64, TensorProto.COMPLEX128})


def indices(case: Case, shape: list[int], extent: int, dtype: type = np.int64, negative: bool = True) -> np.ndarray:
    """Positions on an axis of `extent`, half of the time from the end too."""
    low = -extent if negative and case.chance() else 0
    return case.rng.integers(low, max(extent, low + 1), tuple(shape)).astype(dtype)


@generator("Gather")
def gather(case: Case) -> None:
    shape = case.shape(case.rank(1, 5))
    axis = case.axis(len(shape))
    if case.version < 11:
        axis %= len(shape)
    wanted = case.shape(case.rank(0, 3), high=5)
    if shape[axis] == 0 and math.prod(wanted):
        shape[axis] = case.size(1, 5)
    data, elem_type = moved(case, shape)
    positions = indices(case, wanted, shape[axis], numpy_type(case.type("Tind")), case.version >= 11)
    case.node([data, case.input(positions, 0.5)], [elem_type], axis=None if axis == 0 and case.chance() else axis)


@generator("GatherElements")
def gather_elements(case: Case) -> None:
    shape = case.shape(case.rank(1, 5))
    axis = case.axis(len(shape))
    wanted = [case.size(0, extent) if case.chance(0.3) else extent for extent in shape]
    wanted[axis] = case.size(0, 5)
    if shape[axis] == 0 and math.prod(wanted):
        shape[axis] = case.size(1, 5)
    data, elem_type = moved(case, shape)
    positions = indices(case, wanted, shape[axis], numpy_type(case.type("Tind")))
    case.node([data, case.input(positions, 0.3)], [elem_type], axis=None if axis == 0 and case.chance() else axis)


def tuples(case: Case, leading: list[int], extents: list[int]) -> np.ndarray:
    """Index tuples into axes of these extents."""
    columns = [indices(case, leading, extent) for extent in extents]
    return np.stack(columns, -1) if columns else np.zeros((*leading, 0), np.int64)


@generator("GatherND")
def gather_nd(case: Case) -> None:
    shape = case.shape(case.rank(1, 5), 1, 7)
    batch = case.size(0, len(shape) - 1) if case.version >= 12 and case.chance() else 0
    leading = shape[:batch] + case.shape(case.rank(0 if batch else 1, 2), high=5)
    count = case.size(1, len(shape) - batch)
    data, elem_type = moved(case, shape)
    positions = tuples(case, leading, shape[batch : batch + count])
    form = None if case.version < 12 or (batch == 0 and case.chance()) else batch
    case.node([data, case.input(positions, 0.3)], [elem_type], batch_dims=form)


def reduction(case: Case) -> str | None:
    if case.version < 16:
        return None
    return case.pick(None, "none", "add", "mul", *(["max", "min"] if case.version >= 18 else []))


def updated(case: Case, form: str | None, data: list[int], updates: list[int]) -> tuple[str, str, int]:
    """Inputs for data and updates, and their type."""
    elem_type = case.type("T", but=UNORDERED) if form not in (None, "none") else case.type("T")
    exact = numpy_type(elem_type).kind in "iub"
    pair = [
        case.values(elem_type, shape) if not exact else case.values(elem_type, shape, 0, 3) for shape in (data, updates)
    ]
    return case.input(pair[0], 0.2, elem_type), case.input(pair[1], 0.1, elem_type), elem_type


def scatter(case: Case, form: str | None) -> None:
    shape = case.shape(case.rank(1, 4), 1, 7)
    axis = case.axis(len(shape))
    if case.op == "Scatter" and case.version < 11:
        axis %= len(shape)
    wanted = [case.size(0 if case.chance(0.1) else 1, extent) for extent in shape]
    extent = shape[axis]
    dtype = numpy_type(case.type("Tind"))
    if form in (None, "none"):
        positions = case.rng.permuted(
            np.broadcast_to(
                np.arange(extent).reshape([-1 if index == axis % len(shape) else 1 for index in range(len(shape))]),
                shape,
            ),
            axis=axis,
        )
        positions = positions[tuple(slice(0, size) for size in wanted)]
        positions = np.where(case.rng.random(positions.shape) < 0.3, positions - extent, positions)
        if case.op == "Scatter" and case.version < 11:
            positions = positions % extent
    else:
        positions = indices(case, wanted, extent)
    data, updates, elem_type = updated(case, form, shape, list(positions.shape))
    inputs = [data, case.input(positions.astype(dtype), 0.3), updates]
    case.node(inputs, [elem_type], axis=None if axis == 0 and case.chance() else axis, reduction=form)


@generator("Scatter")
def scatter_deprecated(case: Case) -> None:
    scatter(case, None)


@generator("ScatterElements")
def scatter_elements(case: Case) -> None:
    scatter(case, reduction(case))


@generator("ScatterND")
def scatter_nd(case: Case) -> None:
    form = reduction(case)
    shape = case.shape(case.rank(1, 4), 1, 7)
    count = case.size(1, len(shape))
    places = math.prod(shape[:count])
    if form in (None, "none"):
        chosen = case.rng.permutation(places)[: case.size(0 if case.chance(0.1) else 1, places)]
        positions = np.stack(np.unravel_index(chosen, shape[:count]), -1).astype(np.int64)
        lengths = np.array(shape[:count])
        positions = np.where(case.rng.random(positions.shape) < 0.3, positions - lengths, positions)
    else:
        positions = tuples(case, case.shape(case.rank(1, 2), high=5), shape[:count])
    data, updates, elem_type = updated(case, form, shape, list(positions.shape[:-1]) + shape[count:])
    case.node([data, case.input(positions, 0.3), updates], [elem_type], reduction=form)
