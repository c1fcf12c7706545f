"""Sequences and optionals."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from .case import Case, generator
from .tensor import numpy_type
from .values import type_proto


def element(type_string: str) -> int:
    """The element type inside a type such as seq(tensor(float))."""
    return int(TensorProto.DataType.Value(type_string.split("tensor(")[1].split(")")[0].upper()))


def sequence(case: Case, low: int = 0, high: int = 5) -> tuple[str, int, int]:
    """An input of tensors of one element type and any shapes; how many; the element type."""
    if any(constraint.type_param_str == "T" for constraint in case.schema.type_constraints):
        elem_type = case.type("T")
    else:
        elem_type = element(case.variable_type("S"))
    values = [case.values(elem_type, case.shape(case.rank(0, 4), high=5)) for _ in range(case.size(low, high))]
    return case.input(values, elem_type=sequence_type(elem_type)), len(values), elem_type


def position(case: Case, count: int, constant: float = 0.3) -> str:
    """An input that picks one of `count` places, half of the time from the end."""
    dtype = numpy_type(case.type("I"))
    place = case.size(-count, count - 1)
    return case.input(np.array(place, dtype), constant)


@generator("SequenceConstruct")
def sequence_construct(case: Case) -> None:
    elem_type = case.type("T")
    inputs = [
        case.input(case.values(elem_type, case.shape(case.rank(0, 4), high=5)), 0.2, elem_type)
        for _ in range(case.size(1, 5))
    ]
    case.node(inputs, [sequence_type(elem_type)])


def sequence_type(elem_type: int) -> str:
    return f"seq({tensor_type(elem_type)})"


def tensor_type(elem_type: int) -> str:
    return f"tensor({TensorProto.DataType.Name(elem_type).lower()})"


@generator("SequenceEmpty")
def sequence_empty(case: Case) -> None:
    elem_type = element(case.variable_type("S"))
    default = elem_type == TensorProto.FLOAT and case.chance()
    case.node([], [sequence_type(elem_type)], dtype=None if default else elem_type)


@generator("SequenceInsert")
def sequence_insert(case: Case) -> None:
    source, count, elem_type = sequence(case)
    inputs = [source, case.input(case.values(elem_type, case.shape(case.rank(0, 4), high=5)), 0.2, elem_type)]
    if case.chance(0.7):
        place = np.array(case.size(-count, count), numpy_type(case.type("I")))
        inputs.append(case.input(place, 0.3))
    case.node(inputs, [sequence_type(elem_type)])


@generator("SequenceErase")
def sequence_erase(case: Case) -> None:
    source, count, elem_type = sequence(case, low=1)
    inputs = [source]
    if case.chance(0.7):
        inputs.append(position(case, count))
    case.node(inputs, [sequence_type(elem_type)])


@generator("SequenceAt")
def sequence_at(case: Case) -> None:
    source, count, elem_type = sequence(case, low=1)
    case.node([source, position(case, count)], [elem_type])


@generator("SequenceLength")
def sequence_length(case: Case) -> None:
    case.node([sequence(case)[0]], [TensorProto.INT64])


@generator("SplitToSequence")
def split_to_sequence(case: Case) -> None:
    shape = case.shape(case.rank(1, 5), high=7)
    axis = case.axis(len(shape))
    extent = shape[axis]
    elem_type = case.type("T")
    lengths = None
    if case.chance(0.7):
        dtype = numpy_type(case.type("I"))
        if case.chance() and extent:
            lengths = np.array(case.size(1, extent), dtype)
        else:
            cuts = np.sort(case.rng.integers(0, extent + 1, case.size(0, 3)))
            lengths = np.diff(np.concatenate([[0], cuts, [extent]])).astype(dtype)
    inputs = [case.input(case.values(elem_type, shape), 0.1, elem_type), case.input(lengths, 0.4)]
    case.node(
        inputs,
        [sequence_type(elem_type)],
        axis=None if axis == 0 and case.chance() else axis,
        keepdims=case.pick(None, 0, 1),
    )


@generator("ConcatFromSequence")
def concat_from_sequence(case: Case) -> None:
    elem_type = case.type("T")
    shape = case.shape(case.rank(0, 4), high=5)
    stack = not shape or case.chance()
    axis = case.axis(len(shape) + 1 if stack else len(shape))
    values = []
    for _ in range(case.size(1, 4)):
        piece = list(shape)
        if not stack:
            piece[axis] = case.size(0, 4)
        values.append(case.values(elem_type, piece))
    case.node(
        [case.input(values, elem_type=sequence_type(elem_type))],
        [elem_type],
        axis=axis,
        new_axis=1 if stack else case.pick(None, 0),
    )


def held(case: Case, variable: str) -> tuple[object, str]:
    """A value that an optional may hold (a tensor or a sequence), and its type."""
    kind = case.variable_type(variable, 0.5)
    kind = kind.removeprefix("optional(")[:-1] if kind.startswith("optional(") else kind
    elem_type = element(kind)
    if kind.startswith("seq"):
        return [case.values(elem_type, case.shape(case.rank(0, 3), high=5)) for _ in range(case.size(0, 4))], kind
    return case.values(elem_type, case.shape(case.rank(0, 4))), kind


def optional_of(case: Case, value: object, kind: str) -> str:
    """The output of an Optional that holds the value, or nothing for None."""
    attributes = {"type": type_proto(kind)} if value is None or case.chance(0.3) else {}
    inputs = [] if value is None else [case.input(value, elem_type=kind)]
    case.nodes.append(helper.make_node("Optional", inputs, ["held"], **attributes))
    return "held"


@generator("Optional")
def optional(case: Case) -> None:
    value, kind = held(case, "V")
    value = None if case.chance(0.3) else value
    name = optional_of(case, value, kind)
    case.under_test = case.nodes[-1]
    case.nodes.append(helper.make_node("OptionalHasElement", [name], [case.output(TensorProto.BOOL)]))
    if value is not None:
        case.nodes.append(helper.make_node("OptionalGetElement", [name], [case.output(kind)]))


@generator("OptionalHasElement")
def optional_has_element(case: Case) -> None:
    value, kind = held(case, "O")
    form = case.size(0, 3)
    if form == 0 and case.version >= 18:
        case.node([], [TensorProto.BOOL])
    elif form == 1 and case.version >= 18:
        case.node([case.input(value, elem_type=kind)], [TensorProto.BOOL])
    elif form == 2:
        value = None if case.chance() else value
        case.node([case.input(value, elem_type=f"optional({kind})")], [TensorProto.BOOL])
    else:
        case.node([optional_of(case, None if case.chance() else value, kind)], [TensorProto.BOOL])


@generator("OptionalGetElement")
def optional_get_element(case: Case) -> None:
    value, kind = held(case, "O" if "O" in case.forced else "V")
    form = case.size(0, 2)
    if form == 0 and case.version >= 18:
        source = case.input(value, elem_type=kind)
    elif form == 1:
        source = case.input(value, elem_type=f"optional({kind})")
    else:
        source = optional_of(case, value, kind)
    case.node([source], [kind])
