"""Reductions over axes, and the places of extremes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto as T

from . import values as forms
from .case import Case, generator

SUMS = ("ReduceL1", "ReduceL2", "ReduceSum", "ReduceSumSquare", "ReduceMean", "ReduceProd")


def operand(case: Case, elem_type: int, shape: list[int]) -> np.ndarray:
    if case.op in ("ReduceMax", "ReduceMin"):
        return case.values(elem_type, shape, special=True)
    if case.op == "ReduceLogSum" and elem_type not in forms.INTEGERS:
        return case.values(elem_type, shape, 0.1, 3)
    low = 0 if elem_type in forms.UNSIGNED else -2
    if case.op == "ReduceProd":
        return case.values(elem_type, shape, low, 2)
    if case.op in ("ReduceLogSum", "ReduceLogSumExp") and elem_type in forms.INTEGERS:
        return case.values(elem_type, shape, 1 if case.op == "ReduceLogSum" else low, 4)
    scale = case.pick(1, 1, 30) if elem_type == T.FLOAT and case.op == "ReduceLogSumExp" else 1
    values = case.values(elem_type, shape)
    return values * np.asarray(scale, values.dtype)


def axes_of(case: Case, rank: int) -> list[int] | None:
    """Different axes in any order, some counted from the end; None for absent ones."""
    if case.chance(0.25):
        return None
    count = case.size(0 if case.chance(0.2) else min(1, rank), rank)
    negatives = case.version >= 11 or case.version >= 18
    chosen = [int(axis) for axis in case.rng.permutation(rank)[:count]]
    return [axis - rank if negatives and case.chance() else axis for axis in chosen]


@generator(
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
def reduction(case: Case) -> None:
    elem_type = case.type("T")
    shape = case.shape(low=0 if case.chance(0.2) else 1, high=64)
    x = operand(case, elem_type, shape)
    axes = axes_of(case, len(shape))
    attributes = {"keepdims": case.pick(None, 0, 1)}
    if "noop_with_empty_axes" in case.schema.attributes:
        attributes["noop_with_empty_axes"] = case.pick(None, 0, 1)
        axes_input = None if axes is None else np.array(axes, np.int64)
        case.node([case.input(x, 0.1), case.input(axes_input, 0.6)], [elem_type], **attributes)
        return
    # An empty list as an attribute says nothing about whether it is there.
    case.node([case.input(x, 0.1)], [elem_type], axes=axes or None, **attributes)


@generator("ArgMax", "ArgMin")
def extreme_place(case: Case) -> None:
    elem_type = case.type("T")
    shape = case.shape(case.rank(1), low=1, high=33)
    if case.chance(0.1) and len(shape) > 1:
        shape[0] = 0
    low = 0 if elem_type in forms.UNSIGNED else -2
    x = case.values(elem_type, shape, low, 2, special=case.chance(0.3))
    if forms.is_float(elem_type):
        x = np.round(x.astype(np.float64)).astype(x.dtype)
    axis = case.axis(len(shape))
    if case.version < 11:
        axis %= len(shape)
    if shape[axis] == 0:
        shape[0] = 1
        x = np.ones(shape, x.dtype)
    last = case.pick(None, 0, 1) if case.version >= 12 else None
    case.node(
        [case.input(x, 0.1)],
        [T.INT64],
        axis=case.optional(axis, 0.8) if shape[0] else axis,
        keepdims=case.pick(None, 0, 1),
        select_last_index=last,
    )
