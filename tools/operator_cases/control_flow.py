"""If, Loop, Scan and SequenceMap: bodies with captures, nested bodies, states that grow, axes and directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from .case import Case, generator
from .sequence import element, sequence, sequence_type
from .values import type_proto

ARITHMETIC = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32})
FLOAT, INT64, BOOL = int(TensorProto.FLOAT), int(TensorProto.INT64), int(TensorProto.BOOL)


@dataclass
class Body:
    """A subgraph under construction; names carry a prefix, so that no two graphs share one."""

    prefix: str
    inputs: list = field(default_factory=list)
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    outputs: list = field(default_factory=list)
    count: int = 0

    def name(self) -> str:
        self.count += 1
        return f"{self.prefix}{self.count}"

    def formal(self, elem_type: int | str, shape: list[int] | None = None) -> str:
        name = self.name()
        self.inputs.append(value_info(name, elem_type, shape))
        return name

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = self.name()
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, case: Case, value: np.ndarray) -> str:
        """An initializer of the body, or a Constant in it."""
        tensor = numpy_helper.from_array(value)
        if case.chance() or value.dtype not in (np.float32, np.float64):
            tensor.name = self.name()
            self.initializers.append(tensor)
            return tensor.name
        return self.add("Constant", value=tensor)

    def result(self, name: str, elem_type: int | str, shape: Sequence[int] | None = None) -> None:
        if any(output.name == name for output in self.outputs):
            name = self.add("Identity", name)
        self.outputs.append(value_info(name, elem_type, shape))

    def graph(self) -> GraphProto:
        return helper.make_graph(self.nodes, f"{self.prefix}graph", self.inputs, self.outputs, self.initializers)


def value_info(name: str, kind: int | str, shape: Sequence[int] | None) -> helper.ValueInfoProto:
    if isinstance(kind, str):
        return helper.make_value_info(name, type_proto(kind))
    return helper.make_tensor_value_info(name, kind, shape)


def forced_container(case: Case) -> str | None:
    """The sequence or optional that the variable V is to stand for, if it is."""
    kind = case.forced.get("V")
    return kind if isinstance(kind, str) else None


def contained(case: Case, kind: str) -> object:
    """A value of a sequence or optional type."""
    if kind.startswith("optional("):
        return contained(case, kind.removeprefix("optional(")[:-1])
    if kind.startswith("seq("):
        shapes = [case.shape(case.rank(0, 2), high=3) for _ in range(case.size(0, 2))]
        return [case.values(element(kind), shape) for shape in shapes]
    return case.values(element(kind), case.shape(case.rank(0, 2), high=3))


def changed(case: Case, body: Body, name: str, elem_type: int) -> str:
    """A value of the same type and shape as `name`: a copy, or a sum with itself."""
    if elem_type in ARITHMETIC and (case.opset >= 7 or elem_type in (FLOAT, TensorProto.DOUBLE)) and case.chance(0.7):
        return body.add("Add", name, name)
    return body.add("Identity", name)


# If


@dataclass
class Capture:
    """A value of an outer graph."""

    name: str
    elem_type: int
    shape: list[int] | None = None


def branch(case: Case, prefix: str, kinds: list[int | str], captures: list[Capture], depth: int) -> GraphProto:
    """A graph without inputs whose outputs have these types."""
    body = Body(prefix)
    for kind in kinds:
        elem_type = kind if isinstance(kind, int) else element(kind)
        same = [capture for capture in captures if capture.elem_type == elem_type]
        if same and case.chance(0.6):
            source = case.pick(*same).name
        else:
            source = body.constant(case, case.values(elem_type, case.shape(case.rank(0, 3), high=4)))
        if isinstance(kind, str):
            held = body.add("SequenceConstruct", *([source] * case.size(1, 3))) if "seq(" in kind else source
            body.result(body.add("Optional", held) if kind.startswith("optional(") else held, kind)
        elif depth > 0 and case.chance(0.3):
            body.result(nested(case, body, elem_type, [*captures, Capture(source, elem_type)], depth - 1), elem_type)
        else:
            body.result(changed(case, body, source, elem_type), elem_type)
    return body.graph()


def nested(case: Case, body: Body, elem_type: int, captures: list[Capture], depth: int) -> str:
    """An If inside a body, on a captured condition where there is one."""
    conditions = [capture.name for capture in captures if capture.elem_type == BOOL and capture.name.startswith("cond")]
    condition = conditions[0] if conditions else body.constant(case, np.array(case.chance()))
    number = len(body.nodes)
    then, other = (branch(case, f"{body.prefix}{side}{number}_", [elem_type], captures, depth) for side in "te")
    return body.add("If", condition, then_branch=then, else_branch=other)


@generator("If")
def conditional(case: Case) -> None:
    container = forced_container(case)
    elem_type = element(container) if container else case.type("V")
    kinds: list[int | str] = [elem_type, container] if container else [elem_type]
    for _ in range(case.size(0, 2)):
        kinds.append(case.pick(FLOAT, INT64, elem_type))
    if case.version >= 13 and case.chance(0.2):
        kinds.append(sequence_type(case.pick(FLOAT, INT64)))
    captures = [
        Capture(case.input(case.values(kind, case.shape(case.rank(0, 4))), 0.2, kind), kind)
        for kind in dict.fromkeys([elem_type, FLOAT])
        for _ in range(case.size(0, 2))
    ]
    shape = [] if case.version < 11 or case.chance(0.8) else [1]
    condition = case.input(np.full(shape, case.chance()), 0.3)
    then, other = (branch(case, f"{side}_", kinds, captures, 2) for side in ("then", "else"))
    case.node([condition], kinds, then_branch=then, else_branch=other)


# Loop


@dataclass
class State:
    """A value that an iteration hands to the next one."""

    value: object
    kind: int | str
    grows: bool = False


def loop_states(case: Case) -> list[State]:
    states = []
    container = forced_container(case)
    if container:
        states.append(State(contained(case, container), container))
    for index in range(0 if container else case.size(0, 3)):
        elem_type = case.type("V") if index == 0 else case.pick(FLOAT, INT64)
        grows = elem_type in ARITHMETIC and case.chance(0.25)
        shape = case.shape(case.rank(1 if grows else 0, 3), high=4)
        states.append(State(case.values(elem_type, shape, *((0, 3) if elem_type == INT64 else ())), elem_type, grows))
    if case.version >= 13 and case.chance(0.25):
        states.append(
            State(
                [case.values(FLOAT, case.shape(case.rank(0, 2), high=3)) for _ in range(case.size(0, 2))],
                sequence_type(FLOAT),
            )
        )
    return states


def loop_step(case: Case, body: Body, state: State, name: str, captures: list[Capture], iteration: str) -> str:
    if isinstance(state.kind, str):
        if not state.kind.startswith("seq("):
            return name
        piece = case.values(element(state.kind), [case.size(0, 2)])
        return body.add("SequenceInsert", name, body.constant(case, piece))
    if state.grows:
        piece = case.values(state.kind, [case.size(0, 2), *np.shape(state.value)[1:]])
        return body.add("Concat", name, body.constant(case, piece), axis=0)
    if case.chance(0.2):
        state.grows = True  # a branch may have another shape
        return nested(case, body, state.kind, [*captures, Capture(name, state.kind)], 1)
    if state.kind == INT64 and case.opset >= 7 and case.chance(0.4):
        return body.add("Add", name, iteration)
    return changed(case, body, name, state.kind)


@generator("Loop")
def loop(case: Case) -> None:
    # An output of no iteration has a shape only if the ranks of what goes in are known.
    case.keeps_ranks = True
    states = loop_states(case)
    shapes = [case.shape(case.rank(0, 3), high=4) for _ in range(case.size(0, 2))]
    captures = [Capture(case.input(case.values(FLOAT, shape), 0.2), FLOAT, shape) for shape in shapes]
    trips = case.size(0 if case.chance(0.3) else 1, 5)
    body = Body("body_")
    form = [] if case.version < 11 or case.chance(0.8) else [1]
    iteration, going = body.formal(INT64, []), body.formal(BOOL, [])
    names = [body.formal(state.kind) for state in states]
    # Without a first condition the later ones do not count.
    conditional_loop = case.chance(0.7)
    stops = conditional_loop and case.opset >= 9 and case.chance(0.5)
    if stops:
        going_on = body.add("Less", iteration, body.constant(case, np.array(case.size(-1, 4), np.int64)))
    else:
        going_on = body.add("Identity", going)
    body.result(going_on, BOOL)
    after = [loop_step(case, body, state, name, captures, iteration) for state, name in zip(states, names)]
    for state, name in zip(states, after):
        body.result(name, state.kind)
    scans = []
    for state, name, following in zip(states, names, after):
        if isinstance(state.kind, int) and not state.grows and case.chance(0.5):
            body.result(case.pick(body.add("Identity", name), following), state.kind, np.shape(state.value))
            scans.append(state.kind)
    if captures and case.chance(0.3):
        body.result(changed(case, body, captures[0].name, FLOAT), FLOAT, captures[0].shape)
        scans.append(FLOAT)
    if not states and not scans:
        body.result(body.add("Identity", iteration), INT64, [])
        scans.append(INT64)
    absent = stops and case.chance(0.3)
    count = "" if absent else case.input(np.full(form, trips, np.int64), 0.4)
    start = case.input(np.full(form, case.chance(0.9)), 0.3) if conditional_loop else ""
    values = [case.input(state.value, 0.2, state.kind) for state in states]
    case.node([count, start, *values], [state.kind for state in states] + scans, body=body.graph())


# Scan


@dataclass
class Scanned:
    """Slices of a scan input, or of a scan output."""

    shape: list[int]
    elem_type: int
    axis: int
    backwards: bool


def scan_body(
    case: Case, states: list[State], scanned: list[Scanned], captures: list[Capture]
) -> tuple[Body, list[Scanned]]:
    """A body that adds slices to states of their shape; and what it puts out."""
    body = Body("body_")
    names = [body.formal(state.kind, list(np.shape(state.value))) for state in states]
    slices = [body.formal(item.elem_type, item.shape) for item in scanned]
    following = []
    for state, name in zip(states, names):
        same = [
            piece
            for piece, item in zip(slices, scanned)
            if item.elem_type == state.kind and item.shape == list(np.shape(state.value))
        ]
        if same and state.kind in ARITHMETIC and case.chance(0.8):
            following.append(body.add("Add", name, same[0]))
        elif case.chance(0.2):
            following.append(nested(case, body, state.kind, [*captures, Capture(name, state.kind)], 1))
        else:
            following.append(changed(case, body, name, state.kind))
        body.result(following[-1], state.kind)
    results = []
    sources = [(name, state.kind, list(np.shape(state.value))) for name, state in zip(following, states)]
    sources += [(name, item.elem_type, item.shape) for name, item in zip(slices, scanned)]
    for name, elem_type, shape in sources:
        if case.chance(0.6) or not states and not results:
            body.result(changed(case, body, name, elem_type), elem_type)
            results.append(Scanned(shape, elem_type, 0, False))
    return body, results


def scan_parts(case: Case) -> tuple[list[State], list[Scanned]]:
    shape = case.shape(case.rank(0, 3), high=4)
    elem_type = case.type("V")
    states = []
    for index in range(case.size(0, 2)):
        kind = elem_type if index == 0 else FLOAT
        form = shape if case.chance(0.6) else case.shape(case.rank(0, 2), high=3)
        states.append(State(case.values(kind, form), kind))
    scanned = []
    for index in range(case.size(1, 3)):
        kind = case.pick(elem_type, FLOAT)
        scanned.append(Scanned(shape if case.chance(0.6) else case.shape(case.rank(0, 2), high=3), kind, 0, False))
    return states, scanned


@generator("Scan")
def scan(case: Case) -> None:
    states, scanned = scan_parts(case)
    length = case.size(0 if case.chance(0.1) else 1, 5)
    captures = [Capture(case.input(case.values(FLOAT, [2]), 0.3), FLOAT)] if case.chance(0.3) else []
    body, results = scan_body(case, states, scanned, captures)
    kinds = [state.kind for state in states] + [item.elem_type for item in results]
    directed = case.chance(0.4)
    for item in [*scanned, *results]:
        item.backwards = directed and case.chance()
    directions = [int(item.backwards) for item in scanned] if directed else None
    if case.version == 8:
        batch = case.size(1, 3)
        lengths = case.rng.integers(1 if length else 0, length + 1, batch) if case.chance() else None
        inputs = [case.input(lengths)]
        inputs += [
            case.input(
                np.stack([case.values(state.kind, np.shape(state.value)) for _ in range(batch)]), elem_type=state.kind
            )
            for state in states
        ]
        inputs += [
            case.input(case.values(item.elem_type, [batch, length, *item.shape]), elem_type=item.elem_type)
            for item in scanned
        ]
        case.node(inputs, kinds, body=body.graph(), num_scan_inputs=len(scanned), directions=directions)
        return
    turned = case.chance(0.4)
    for item in [*scanned, *results]:
        item.axis = case.size(0, len(item.shape)) if turned else 0
    inputs = [case.input(state.value, 0.2, state.kind) for state in states]
    for item in scanned:
        shape = item.shape[: item.axis] + [length] + item.shape[item.axis :]
        inputs.append(case.input(case.values(item.elem_type, shape), 0.2, item.elem_type))
    low = case.version >= 11

    def axes(items: list[Scanned]) -> list[int] | None:
        numbers = [item.axis - (len(item.shape) + 1 if low and case.chance(0.3) else 0) for item in items]
        return numbers if turned and items else None

    case.node(
        inputs,
        kinds,
        body=body.graph(),
        num_scan_inputs=len(scanned),
        scan_input_axes=axes(scanned),
        scan_output_axes=axes(results),
        scan_input_directions=directions,
        scan_output_directions=[int(item.backwards) for item in results] if directed and results else None,
    )


# SequenceMap


@generator("SequenceMap")
def sequence_map(case: Case) -> None:
    """The body copies and measures; other inputs are sequences of the same length, or tensors."""
    source, length, elem_type = sequence(case, low=1)
    inputs = [source]
    body = Body("body_")
    body.result(changed(case, body, body.formal(elem_type), elem_type), elem_type)
    kinds = [elem_type]
    for _ in range(case.size(0, 2)):
        kind = case.variable_type("V", 0.5)
        other = element(kind)
        if kind.startswith("seq"):
            pieces = [case.values(other, case.shape(case.rank(0, 3), high=4)) for _ in range(length)]
            inputs.append(case.input(pieces, elem_type=kind))
        else:
            inputs.append(case.input(case.values(other, case.shape(case.rank(0, 3), high=4)), 0.3, other))
        body.result(body.add(case.pick("Shape", "Size"), body.formal(other)), INT64)
        kinds.append(INT64)
    case.node(inputs, [sequence_type(kind) for kind in kinds], body=body.graph())
