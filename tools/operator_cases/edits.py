"""Simplifications of a case that fails, for shrinking."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import numpy_helper
from onnx.defs import OpSchema

from .case import Case, trimmed

Edit = tuple[str, Any]


def possible(case: Case) -> list[Edit]:
    """Edits that make the case simpler, each by itself. Whether the result means anything, the oracles say."""
    node = case.under_test
    if node is None:
        return []
    edits: list[Edit] = [("attribute", attribute.name) for attribute in node.attribute if attribute.name != "seed"]
    edits += [
        ("input", index) for index, name in reversed(list(enumerate(node.input))) if name and may_drop(case, index)
    ]
    if len(case.nodes) == 1 and sum(map(bool, node.output)) > 1:
        edits += [("output", index) for index, name in enumerate(node.output) if name]
    for name, value in case.values_by_name.items():
        if not isinstance(value, np.ndarray):
            continue
        if any(info.name == name and not is_plain(info) for info in case.inputs):
            edits.append(("plain", name))
        if any(tensor.name == name for tensor in case.initializers):
            edits.append(("fed", name))
        if value.dtype.kind in "OUSb" or value.size == 0:
            continue
        numbers = value.astype(np.float64) if value.dtype.kind != "c" else value.real
        finite = np.isfinite(numbers)
        if not np.all(numbers == 0):
            edits.append(("zeros", name))
        if np.any(np.round(np.where(finite, numbers, 0)) != numbers) and np.any(finite):
            edits.append(("round", name))
        edits += [
            ("zero", (name, index))
            for index in range(value.size)
            if value.size <= 8 and numbers.reshape(-1)[index] != 0
        ]
    return edits


def may_drop(case: Case, index: int) -> bool:
    """Whether the schema lets an input be absent; without a schema onnxruntime says."""
    if case.schema is None:
        return True
    formal = case.schema.inputs[min(index, len(case.schema.inputs) - 1)]
    return formal.option != OpSchema.FormalParameterOption.Single


def is_plain(info: Any) -> bool:
    tensor = info.type.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def apply(case: Case, edit: Edit) -> None:
    """Makes one of the edits that `possible` named."""
    kind, what = edit
    node = case.under_test
    if kind == "attribute":
        kept = [attribute for attribute in node.attribute if attribute.name != what]
        del node.attribute[:]
        node.attribute.extend(kept)
    elif kind in ("input", "output"):
        names = list(node.input if kind == "input" else node.output)
        dropped, names[what] = names[what], ""
        side = node.input if kind == "input" else node.output
        del side[:]
        side.extend(trimmed(names))
        if not any(dropped in other.input for other in case.nodes):
            forget(case, dropped)
    elif kind in ("zeros", "round", "zero"):
        replace(case, kind, what)
    elif kind == "plain":
        for info in case.inputs:
            if info.name == what:
                del info.type.tensor_type.shape.dim[:]
                info.type.tensor_type.shape.SetInParent()
                for extent in case.values_by_name[what].shape:
                    info.type.tensor_type.shape.dim.add().dim_value = extent
    elif kind == "fed":
        from onnx import helper

        value = case.values_by_name[what]
        case.initializers = [tensor for tensor in case.initializers if tensor.name != what]
        elem_type = helper.np_dtype_to_tensor_dtype(value.dtype)
        case.inputs.append(helper.make_tensor_value_info(what, elem_type, value.shape))
        case.feeds[what] = value


def forget(case: Case, name: str) -> None:
    """Takes a value out of the graph's inputs, constants and outputs."""
    case.inputs = [info for info in case.inputs if info.name != name]
    case.initializers = [tensor for tensor in case.initializers if tensor.name != name]
    case.outputs = [info for info in case.outputs if info.name != name]
    case.feeds.pop(name, None)
    case.values_by_name.pop(name, None)


def replace(case: Case, kind: str, what: Any) -> None:
    """Puts 0 for all elements or one, or rounds them."""
    name = what[0] if kind == "zero" else what
    value = case.values_by_name[name].copy()
    if kind == "zeros":
        value[...] = np.zeros((), value.dtype)
    elif kind == "round":
        value = np.round(value.astype(np.complex128 if value.dtype.kind == "c" else np.float64)).astype(value.dtype)
    else:
        value.reshape(-1)[what[1]] = np.zeros((), value.dtype)
    case.values_by_name[name] = value
    if name in case.feeds:
        case.feeds[name] = value
    for tensor in case.initializers:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
