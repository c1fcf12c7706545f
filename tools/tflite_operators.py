"""Operators that networks have in forms that TensorFlow Lite lacks, as models for check_tflite_writer.py: recurrent
layers, transposed convolutions, poolings, places of elements, products. All must be written."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Arrays = dict[str, np.ndarray]
Case = tuple[str, onnx.ModelProto, Arrays]


class Graph:
    """A model under construction, with random numbers of its own."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.inputs: Arrays = {}
        self.weights: list[TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.shapes: dict[str, list[int | str]] = {}

    def input(self, *shape: int, kind: type = np.float32, values: object = None, symbol: int | None = None) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs[name] = np.asarray(self.draw.normal(size=shape) if values is None else values).astype(kind)
        self.shapes[name] = list(self.inputs[name].shape)
        if symbol is not None:
            self.shapes[name][symbol] = "batch"
        return name

    def constant(self, values: object, kind: type = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values).astype(kind), name))
        return name

    def random(self, *shape: int) -> str:
        return self.constant(self.draw.normal(0, 0.4, shape))

    def node(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> list[str]:
        names = [f"v{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, f"{op}_{len(self.nodes)}", **attributes))
        return names

    def model(self, outputs: list[str], opset: int = 18) -> onnx.ModelProto:
        def declared(name: str) -> onnx.ValueInfoProto:
            kind = helper.np_dtype_to_tensor_dtype(self.inputs[name].dtype)
            return helper.make_tensor_value_info(name, kind, self.shapes[name])

        graph = helper.make_graph(
            self.nodes, "operator", [declared(name) for name in self.inputs],
            [onnx.ValueInfoProto(name=name) for name in outputs], self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        return onnx.shape_inference.infer_shapes(model)


def recurrent(seed: int) -> Iterator[Case]:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}
    forms: list[tuple[str, str, dict[str, object]]] = [
        (op, direction, extra)
        for op in gates for direction in ("forward", "reverse", "bidirectional")
        for extra in ({}, {"state": True}, {"symbol": True}, {"bias": False})
    ]
    late = {"linear_before_reset": 1}
    forms += [("GRU", "bidirectional", late), ("GRU", "forward", late | {"state": True})]
    forms += [("GRU", "forward", late | {"bias": False}), ("LSTM", "forward", {"peepholes": True})]
    forms += [("LSTM", "bidirectional", {"peepholes": True, "state": True}), ("LSTM", "forward", {"clip": 0.3})]
    forms += [("RNN", "forward", {"activations": ["Relu"]}), ("LSTM", "forward", {"only": True})]
    for number, (op, direction, extra) in enumerate(forms):
        graph, extra = Graph(seed + number), dict(extra)
        time, batch, size, units = 5, 1 if extra.get("symbol") else 3, 4, 6
        sides, rows = (2 if direction == "bidirectional" else 1), gates[op] * units
        x = graph.input(time, batch, size, symbol=1 if extra.pop("symbol", False) else None)
        operands = [x, graph.random(sides, rows, size), graph.random(sides, rows, units)]
        operands.append(graph.random(sides, 2 * rows) if extra.pop("bias", True) else "")
        state, peepholes, only = (extra.pop(name, False) for name in ("state", "peepholes", "only"))
        if state or peepholes:
            count = 2 if op == "LSTM" else 1
            operands += ["", *(graph.random(sides, batch, units) if state else "" for _ in range(count))]
        if peepholes:
            operands.append(graph.random(sides, 3 * units))
        # The cell state alone keeps an LSTM from being the interpreter's.
        count = 1 if only else 2 if number % 2 or op != "LSTM" else 3
        names = graph.node(op, *operands, outputs=count, hidden_size=units, direction=direction, **extra)
        yield f"{op}_{direction}_{number}", graph.model(names), graph.inputs


def transposed(seed: int) -> Iterator[Case]:
    forms: list[tuple[int, int, int, dict[str, object]]] = [
        (2, 4, 6, {"strides": [2, 2]}), (6, 6, 6, {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        (1, 3, 4, {"dilations": [2, 2]}), (1, 3, 4, {"dilations": [2, 3], "strides": [2, 1], "pads": [1, 0, 2, 1]}),
        (2, 4, 4, {"dilations": [1, 2], "output_padding": [1, 1], "strides": [2, 2]}),
    ]
    for number, (groups, channels, results, extra) in enumerate(forms):
        graph = Graph(seed + number)
        x = graph.input(1, channels, 5, 6)
        operands = [x, graph.random(channels, results // groups, 3, 3)] + [graph.random(results)] * (number % 2)
        outputs = graph.node("ConvTranspose", *operands, group=groups, **extra)
        yield f"ConvTranspose_{number}", graph.model(outputs), graph.inputs


def pooling(seed: int) -> Iterator[Case]:
    cube = {"kernel_shape": [2, 3, 2]}
    forms: list[tuple[str, int, dict[str, object]]] = [
        ("MaxPool", 3, cube), ("MaxPool", 3, cube | {"strides": [2, 2, 1], "pads": [1, 1, 0, 0, 1, 1]}),
        ("MaxPool", 3, cube | {"strides": [2, 2, 2], "ceil_mode": 1}), ("AveragePool", 3, cube),
        ("AveragePool", 3, cube | {"strides": [2, 1, 2], "pads": [1, 1, 0, 0, 1, 1]}),
        ("AveragePool", 3, cube | {"pads": [1, 1, 0, 0, 1, 1], "count_include_pad": 1}),
        ("MaxPool", 3, cube | {"dilations": [2, 1, 2]}), ("MaxPool", 2, {"kernel_shape": [2, 2], "dilations": [2, 2]}),
        ("MaxPool", 2, {"kernel_shape": [2, 3], "dilations": [2, 2], "strides": [2, 1], "pads": [1, 1, 0, 1]}),
        ("LpPool", 2, {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1]}),
        ("LpPool", 2, {"kernel_shape": [2, 2], "p": 3}),
    ]
    for number, (op, axes, extra) in enumerate(forms):
        graph = Graph(seed + number)
        x = graph.input(1 if number % 2 else 2, 3, *(7, 6, 8)[:axes], symbol=0 if number % 2 else None)
        yield f"{op}_{number}", graph.model(graph.node(op, x, **extra)), graph.inputs


def places(seed: int) -> Iterator[Case]:
    draw = np.random.default_rng(seed)

    def case(name: str, graph: Graph, outputs: list[str]) -> Case:
        return f"{name}_{len(graph.weights)}", graph.model(outputs), graph.inputs

    extents = (3, 4, 5)
    for axis, kind in ((0, np.int64), (1, np.int32), (-1, np.int64)):
        for is_constant in (False, True):
            for op, reduction in (("GatherElements", ""), ("ScatterElements", "none"), ("ScatterElements", "add")):
                graph, extent = Graph(seed), extents[axis]
                shape = [3, 4, 5]
                shape[axis] = 3
                indices = draw.integers(-extent, extent, shape)
                if reduction == "none":
                    # Places that are written once, some counted from the end.
                    line = draw.permutation(extent)[:3] - extent * draw.integers(0, 2, 3)
                    column = [3 if place == axis % 3 else 1 for place in range(3)]
                    indices = np.broadcast_to(line.reshape(column), shape)
                x = graph.input(*extents)
                given = graph.constant(indices, kind) if is_constant else graph.input(kind=kind, values=indices)
                operands = [x, given] + ([graph.input(*shape)] if reduction else [])
                extra = {"reduction": reduction} if reduction else {}
                outputs = graph.node(op, *operands, axis=axis, **extra)
                yield case(f"{op}_{axis}_{is_constant}_{reduction}", graph, outputs)
    for depth in (1, 2, 3):
        for reduction in ("none", "add"):
            graph = Graph(seed + depth)
            x = graph.input(*extents)
            table = draw.permutation(np.argwhere(np.ones(extents[:depth])))
            indices = table[:2] - np.array(extents[:depth]) * draw.integers(0, 2, (2, 1))
            given = graph.input(kind=np.int64, values=indices)
            updates = graph.input(2, *extents[depth:])
            outputs = graph.node("ScatterND", x, given, updates, reduction=reduction)
            yield case(f"ScatterND_{depth}_{reduction}", graph, outputs)
        graph = Graph(seed + depth)
        x, given = graph.input(*extents), graph.input(kind=np.int64, values=indices)
        yield case(f"GatherND_{depth}", graph, graph.node("GatherND", x, given))
    graph = Graph(seed)
    x, given = graph.input(2, 4, 5), graph.input(kind=np.int64, values=[[[1], [-1]], [[3], [0]]])
    yield case("GatherND_batch", graph, graph.node("GatherND", x, given, batch_dims=1))
    for axis in (0, 1, None):
        graph = Graph(seed)
        x = graph.input(3, 4)
        condition = graph.input(kind=np.bool_, values=[True, False, True])
        extra = {} if axis is None else {"axis": axis}
        yield case(f"Compress_{axis}", graph, graph.node("Compress", x, condition, **extra))
    graph = Graph(seed)
    yield case("NonZero", graph, graph.node("NonZero", graph.input(values=draw.integers(0, 2, (3, 4)))))
    for axis in (0, 1, -1):
        for largest in (0, 1):
            graph = Graph(seed)
            x, count = graph.input(5, 6, 4), graph.constant([3], np.int64)
            outputs = graph.node("TopK", x, count, outputs=2, axis=axis, largest=largest)
            yield case(f"TopK_{axis}_{largest}", graph, outputs)
        graph = Graph(seed)
        yield case(f"Hardmax_{axis}", graph, graph.node("Hardmax", graph.input(3, 4, 5), axis=axis))
    for axis, batch in ((0, 1), (1, 0)):
        graph = Graph(seed)
        x, lengths = graph.input(4, 4, 3), graph.input(kind=np.int64, values=[1, 4, 2, 3])
        outputs = graph.node("ReverseSequence", x, lengths, time_axis=axis, batch_axis=batch)
        yield case(f"ReverseSequence_{axis}", graph, outputs)
    for upper in (0, 1):
        graph = Graph(seed)
        yield case(f"Trilu_{upper}", graph, graph.node("Trilu", graph.input(2, 4, 5), upper=upper))


def products(seed: int) -> Iterator[Case]:
    equations = {
        "ij,jk->ik": [(2, 3), (3, 4)], "bhid,bhjd->bhij": [(2, 3, 4, 5), (2, 3, 6, 5)], "i,j->ij": [(3,), (4,)],
        "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)], "abc,cde->abde": [(2, 3, 4), (4, 5, 6)], "ij->j": [(3, 4)],
        "ij,ij->ij": [(3, 4), (3, 4)], "bhwc,hkc->bhwk": [(2, 3, 4, 5), (3, 6, 5)],
        "...ij,...jk->...ik": [(2, 3, 4), (2, 4, 5)],
        "i,i->": [(4,), (4,)], "ij,jk,kl->il": [(2, 3), (3, 4), (4, 5)], "abcd,abed->bce": [(2, 3, 4, 5), (2, 3, 6, 5)],
    }
    for number, (equation, shapes) in enumerate(equations.items()):
        graph = Graph(seed + number)
        operands = [graph.input(*shape) for shape in shapes]
        yield f"Einsum_{number}", graph.model(graph.node("Einsum", *operands, equation=equation)), graph.inputs
    for number in range(4):
        graph = Graph(seed + number)
        draw = graph.draw
        a = graph.input(kind=np.uint8, values=draw.integers(0, 256, (2, 3, 5)))
        # What is no constant has 7 bits: onnxruntime's sums of pairs of larger ones end at 16 bits without VNNI.
        b = draw.integers(-127, 128, (5, 4)) if number % 2 else draw.integers(-63, 64, (5, 4))
        weights = graph.constant(b, np.int8) if number % 2 else graph.input(kind=np.int8, values=b)
        zero = graph.constant(120, np.uint8)
        columns = [graph.constant(draw.integers(-3, 4, 4) if number == 3 else 2, np.int8)] if number != 1 else []
        outputs = graph.node("MatMulInteger", a, weights, zero, *columns)
        yield f"MatMulInteger_{number}", graph.model(outputs), graph.inputs
    graph = Graph(seed)
    x = graph.input(kind=np.uint8, values=graph.draw.integers(0, 256, (1, 3, 6, 6)))
    weights = graph.constant(graph.draw.integers(0, 256, (4, 3, 3, 3)), np.uint8)
    zeros = [graph.constant(100, np.uint8), graph.constant(130, np.uint8)]
    yield "ConvInteger", graph.model(graph.node("ConvInteger", x, weights, *zeros, pads=[1] * 4)), graph.inputs
    # What onnxruntime's dynamic quantization makes of a product.
    graph = Graph(seed)
    codes, scale, zero = graph.node("DynamicQuantizeLinear", graph.input(2, 6), outputs=3)
    weights = graph.constant(graph.draw.integers(-127, 128, (6, 4)), np.int8)
    (product,) = graph.node("MatMulInteger", codes, weights, zero, graph.constant(0, np.int8))
    (floats,) = graph.node("Cast", product, to=TensorProto.FLOAT)
    outputs = graph.node("Mul", floats, graph.node("Mul", scale, graph.constant(0.01))[0])
    yield "DynamicQuantizeLinear", graph.model(outputs), graph.inputs


def cases(seed: int) -> Iterator[Case]:
    for family in (recurrent, transposed, pooling, places, products):
        yield from family(seed)
