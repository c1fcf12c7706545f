#!/usr/bin/env python3
"""Holds every quantized value of a model against an exact evaluation in NumPy.

Between two steps of quantization everything is computed in float64 from the very bytes that Apus has made before, by
the definitions of the operators (onnx's reference evaluator, which is NumPy). Such a result is exact to twelve digits
and more, so a byte of Apus is right if it is the exact result rounded, and it is a tie if the exact result lies so
close to the middle between two bytes that float32, which the operators compute in, cannot tell on which side. For each
value that QuantizeLinear, a QLinear operator or DynamicQuantizeLinear gives, Apus runs the model up to there with all
passes, as it runs the whole.

Prints the values with bytes that are wrong or more than one step beside, and sums. Status 1 if any is wrong. Run it
with the python that `tools/python-env test` prints, after `swift build -c release`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from model_inputs import Feeds, make_feeds, read_spec
from weight_codes import blocks_decoded

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools/python"))

Array = np.ndarray
# What float32 may lose between two steps of quantization, in steps beside the result: rounding of sums of products,
# functions of a few units in the last place, scales that are products of others. Steps of 16 bits are 256 times as
# small beside the numbers, and sums of products of two such may be a step beside.
TIE = {8: 8e-3, 16: 0.5}


def codes(exact: Array, scale: Array, zero: Array, axis: int) -> tuple[Array, Array]:
    """The bytes that are right for exact numbers, and how far each is from the middle between two bytes."""
    shape = [1] * exact.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    steps = exact / scale.astype(np.float64).reshape(shape if scale.size > 1 else ())
    limits = np.iinfo(zero.dtype)
    found = np.rint(steps) + zero.astype(np.float64).reshape(shape if zero.size > 1 else ())
    margin = np.abs(steps - np.floor(steps) - 0.5)
    return np.clip(found, limits.min, limits.max).astype(zero.dtype), margin


def decoded(code: Array, scale: Array, zero: Array | None, axis: int) -> Array:
    shape = [1] * code.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    less = 0 if zero is None else zero.astype(np.float64).reshape(shape if zero.size > 1 else ())
    return (code.astype(np.float64) - less) * scale.astype(np.float64).reshape(shape if scale.size > 1 else ())


def repeated(array: Array, block: int, axis: int, shape: tuple[int, ...]) -> Array:
    """An entry of every block along the axis, for each element of the blocks."""
    axis %= len(shape)
    return np.take(np.repeat(array, block, axis), range(shape[axis]), axis)


def attribute(node: NodeProto, name: str, default: object = None) -> object:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


class Evaluation:
    """One run of a model, operator by operator."""

    def __init__(self, model: onnx.ModelProto, feeds: Feeds, known: Feeds | None = None) -> None:
        """`known`: quantized values that are there already; the others are computed by Apus, one by one."""
        self.model = model
        self.known = known or {}
        self.feeds = feeds
        self.opsets = list(model.opset_import)
        self.values: dict[str, Array | None] = {"": None}
        for tensor in model.graph.initializer:
            self.values[tensor.name] = numpy_helper.to_array(tensor)
        self.values |= feeds
        self.constants = {tensor.name for tensor in model.graph.initializer}
        # How many graphs inside nodes one is in.
        self.hidden = 0
        self.count: Counter[str] = Counter()
        self.wrong: list[str] = []

    def apus(self, names: Sequence[str]) -> list[Array]:
        """The values of that name as Apus has them."""
        if all(name in self.known for name in names):
            return [self.known[name] for name in names]
        import apus

        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
        options = apus.SessionOptions()
        session = apus.InferenceSession(model.SerializeToString(), options)
        wanted = {info.name for info in session.get_inputs()}
        return session.run(None, {name: value for name, value in self.feeds.items() if name in wanted})

    def inputs(self, node: NodeProto) -> list[Array | None]:
        return [self.values[name] for name in node.input]

    def run(self) -> None:
        for node in self.model.graph.node:
            self.step(node)

    def step(self, node: NodeProto) -> None:
        getattr(self, f"run_{node.op_type}", self.plain)(node)
        if node.op_type == "Constant" or node.input and all(name in self.constants or not name for name in node.input):
            self.constants |= set(node.output)

    def plain(self, node: NodeProto) -> None:
        """An operator on floats, in float64; on integers as it is."""
        inputs = {name: self.values[name] for name in {*node.input, *self.captured(node)} if name}
        wide = {name: x.astype(np.float64) if x.dtype == np.float32 else x for name, x in inputs.items()}
        copy = NodeProto()
        copy.CopyFrom(node)
        if node.op_type == "Cast" and attribute(node, "to") == TensorProto.FLOAT:
            del copy.attribute[:]
            copy.attribute.append(helper.make_attribute("to", TensorProto.DOUBLE))
        graph = helper.make_graph(
            [copy],
            "step",
            [helper.make_empty_tensor_value_info(name) for name in wide],
            [helper.make_empty_tensor_value_info(name) for name in node.output if name],
        )
        opsets = [o for o in self.opsets if o.domain in ("", node.domain)]
        evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets))
        for name, value in zip((n for n in node.output if n), evaluator.run(None, wide)):
            self.values[name] = np.asarray(value)

    def captured(self, node: NodeProto) -> set[str]:
        """The values around it that the graphs inside a node read."""
        graphs = [g for a in node.attribute for g in [a.g] * a.HasField("g") + list(a.graphs)]
        inner = [n for graph in graphs for n in graph.node]
        names = {name for n in inner for name in n.input} | {info.name for graph in graphs for info in graph.output}
        return {name for name in names.union(*map(self.captured, inner)) if name in self.values}

    def run_BatchNormalization(self, node: NodeProto) -> None:
        """As it is when not training; onnx's evaluator trains what is of versions before 14."""
        x, scale, bias, mean, variance = (array.astype(np.float64) for array in self.inputs(node))
        wide = lambda array: array.reshape(-1, *[1] * (x.ndim - 2))
        root = np.sqrt(wide(variance) + float(attribute(node, "epsilon", 1e-5)))
        self.values[node.output[0]] = (x - wide(mean)) / root * wide(scale) + wide(bias)

    def run_MaxPool(self, node: NodeProto) -> None:
        """Of integers as of numbers: onnx's evaluator pads with what only floats have."""
        x = self.values[node.input[0]]
        found = self.float_result(node, "MaxPool", [x.astype(np.float64)])
        self.values[node.output[0]] = found.astype(x.dtype) if x.dtype.kind in "iu" else found

    def run_ConvTranspose(self, node: NodeProto) -> None:
        """Group by group: onnx's evaluator takes one only."""
        group = int(attribute(node, "group", 1))
        if group == 1:
            return self.plain(node)
        x, w, bias = (self.inputs(node) + [None])[:3]
        single = NodeProto()
        single.CopyFrom(node)
        del single.attribute[:]
        single.attribute.extend(a for a in node.attribute if a.name != "group")
        parts, biases = [], [None] * group if bias is None else np.split(bias, group)
        for part in zip(np.split(x, group, 1), np.split(w, group, 0), biases):
            operands = [array for array in part if array is not None]
            parts.append(self.float_result(single, "ConvTranspose", operands))
        self.values[node.output[0]] = np.concatenate(parts, 1)

    def compare(self, node: NodeProto, exact: Array, scale: Array, zero: Array, axis: int = 1) -> None:
        """Takes the bytes of Apus for an output, and counts how they are beside the exact ones."""
        name = node.output[0]
        right, margin = codes(np.asarray(exact, np.float64), np.asarray(scale), np.asarray(zero), axis)
        if self.hidden or name in self.constants or all(n in self.constants or not n for n in node.input):
            self.values[name] = right
            return
        (found,) = self.apus([name])
        if found.shape != right.shape:
            self.count["wrong"] += right.size
            self.wrong.append(f"{node.op_type} '{node.name or name}': {found.shape} in the place of {right.shape}")
            self.values[name] = right
            return
        apart = np.abs(found.astype(np.int64) - right.astype(np.int64))
        differs = apart > 0
        tie = differs & (apart == 1) & (margin < TIE[8 * right.itemsize])
        self.count["values"] += found.size
        self.count["equal"] += int((~differs).sum())
        self.count["ties"] += int(tie.sum())
        bad = differs & ~tie
        if bad.any():
            self.count["wrong"] += int(bad.sum())
            self.wrong.append(
                f"{node.op_type} '{node.name or name}': {int(bad.sum())} of {found.size} bytes, at most "
                f"{int(apart.max())} beside, {float(margin[bad].max()):.4f} of a step from the middle"
            )
        self.values[name] = found

    # Operators of quantization

    def run_DequantizeLinear(self, node: NodeProto) -> None:
        x, scale, zero = (self.inputs(node) + [None])[:3]
        axis, block = int(attribute(node, "axis", 1)), int(attribute(node, "block_size", 0))
        if block:
            # One scale for each block along the axis: as many as elements, then.
            scale = repeated(scale, block, axis, x.shape)
            zero = np.zeros((), x.dtype) if zero is None else repeated(zero, block, axis, x.shape)
            self.values[node.output[0]] = (x.astype(np.float64) - zero.astype(np.float64)) * scale.astype(np.float64)
            return
        self.values[node.output[0]] = decoded(x, scale, zero, axis)

    def run_QuantizeLinear(self, node: NodeProto) -> None:
        x, scale, zero = (self.inputs(node) + [None])[:3]
        zero = np.zeros((), np.uint8) if zero is None else zero
        self.compare(node, x, scale, zero, int(attribute(node, "axis", 1)))

    def run_DynamicQuantizeLinear(self, node: NodeProto) -> None:
        # Its formula is one of float32, so its results are what it says.
        x = np.asarray(self.values[node.input[0]], np.float32)
        low, high = np.float32(min(x.min(), 0)), np.float32(max(x.max(), 0))
        scale = np.float32((high - low) / np.float32(255)) or np.float32(1)
        zero = np.clip(np.rint(np.float32(0) - low / scale), 0, 255).astype(np.uint8)
        if self.hidden:
            self.values[node.output[1]], self.values[node.output[2]] = np.asarray(scale), zero
            return self.compare(node, x, scale, zero)
        found = self.apus(node.output)
        self.count["values"] += 2
        right = [np.isclose(found[1], scale, rtol=1e-4, atol=0), abs(int(found[2]) - int(zero)) <= 1]
        self.count["equal"] += sum(map(int, right))
        if not all(right):
            self.count["wrong"] += 2 - sum(map(int, right))
            self.wrong.append(f"{node.op_type} '{node.name}': scale {found[1]}, zero point {found[2]}")
        # Its input has the digits of float32, so scale and zero point are taken as they are.
        _, self.values[node.output[1]], self.values[node.output[2]] = found
        self.compare(node, x, found[1], found[2])

    def run_If(self, node: NodeProto) -> None:
        """The nodes of the branch, one by one. What they round cannot be seen from outside, and is taken as right."""
        branch = attribute(node, "then_branch" if bool(self.values[node.input[0]]) else "else_branch")
        for tensor in branch.initializer:
            self.values[tensor.name] = numpy_helper.to_array(tensor)
        self.constants |= {tensor.name for tensor in branch.initializer}
        self.hidden += 1
        for inner in branch.node:
            self.step(inner)
        self.hidden -= 1
        for name, info in zip(node.output, branch.output):
            self.values[name] = self.values[info.name]

    def run_MatMulNBits(self, node: NodeProto) -> None:
        a, codes, scales, zeros, _, bias = (self.inputs(node) + [None] * 3)[:6]
        rows, depth = int(attribute(node, "N")), int(attribute(node, "K"))
        bits, block = int(attribute(node, "bits", 4)), int(attribute(node, "block_size"))
        if zeros is not None and zeros.dtype != np.uint8:
            raise ValueError("zero points of MatMulNBits that are floats")
        weights = blocks_decoded(codes, scales, zeros, bits, block, rows, depth)
        product = np.matmul(a.astype(np.float64), weights.T)
        self.values[node.output[0]] = product if bias is None else product + bias

    def run_GatherBlockQuantized(self, node: NodeProto) -> None:
        codes, places, scales, zeros = (self.inputs(node) + [None])[:4]
        bits = int(attribute(node, "bits", 4))
        depth = codes.shape[-1] * 8 // bits
        block = int(attribute(node, "block_size"))
        table = blocks_decoded(codes, scales, zeros, bits, block, int(np.prod(codes.shape[:-1])), depth)
        self.values[node.output[0]] = np.take(table.reshape(*codes.shape[:-1], depth), places, 0)

    def run_MatMulInteger(self, node: NodeProto) -> None:
        a, b, a_zero, b_zero = (self.inputs(node) + [None, None])[:4]
        a = a.astype(np.int64) - (0 if a_zero is None else a_zero.astype(np.int64))
        b = b.astype(np.int64) - (0 if b_zero is None else b_zero.astype(np.int64))
        self.values[node.output[0]] = np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int32)

    def quantized_pair(self, node: NodeProto, axis: int) -> tuple[Array, Array, Array, Array]:
        """The two operands, and scale and zero point of the result, of QLinearConv and its relatives."""
        a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = (self.inputs(node) + [None])[:8]
        zero = np.zeros((), a.dtype) if zero is None else zero
        return decoded(a, a_scale, a_zero, 1), decoded(b, b_scale, b_zero, axis), scale, zero

    def float_result(self, node: NodeProto, op: str, inputs: list[Array]) -> Array:
        names = [f"{node.name or node.output[0]}/{i}" for i in range(len(inputs))]
        self.values |= dict(zip(names, inputs))
        step = helper.make_node(op, names, [f"{names[0]}/exact"])
        step.attribute.extend(a for a in node.attribute if a.name not in ("channels_last",))
        self.plain(step)
        return self.values[step.output[0]]

    def run_QLinearConv(self, node: NodeProto) -> None:
        x, w, scale, zero = self.quantized_pair(node, axis=0)
        inputs = [x, w]
        if len(node.input) > 8:
            x_scale, w_scale = (np.asarray(self.values[node.input[i]], np.float64) for i in (1, 4))
            inputs.append(self.values[node.input[8]].astype(np.float64) * x_scale * w_scale)
        self.compare(node, self.float_result(node, "Conv", inputs), scale, zero)

    def run_QLinearMatMul(self, node: NodeProto) -> None:
        a, b, scale, zero = self.quantized_pair(node, axis=-1)
        self.compare(node, np.matmul(a, b), scale, zero)

    def run_QLinearAdd(self, node: NodeProto) -> None:
        a, b, scale, zero = self.quantized_pair(node, axis=1)
        self.compare(node, a + b, scale, zero)

    def run_QLinearMul(self, node: NodeProto) -> None:
        a, b, scale, zero = self.quantized_pair(node, axis=1)
        self.compare(node, a * b, scale, zero)

    def run_QGemm(self, node: NodeProto) -> None:
        a, a_scale, a_zero, b, b_scale, b_zero, c, scale, zero = (self.inputs(node) + [None] * 3)[:9]
        turned = [bool(attribute(node, name, 0)) for name in ("transA", "transB")]
        a = decoded(a, a_scale, a_zero, 1)
        b = decoded(b, b_scale, b_zero, 0 if turned[1] else 1)
        y = np.matmul(a.T if turned[0] else a, b.T if turned[1] else b)
        if c is not None:
            y = y + c.astype(np.float64) * a_scale.astype(np.float64) * b_scale.astype(np.float64)
        # What is added has this factor in its scale.
        y = y * float(attribute(node, "alpha", 1.0))
        if scale is None:
            self.values[node.output[0]] = y
        else:
            self.compare(node, y, scale, zero)

    def run_QLinearSigmoid(self, node: NodeProto) -> None:
        x, x_scale, x_zero, scale, zero = (self.inputs(node) + [None])[:5]
        zero = np.zeros((), x.dtype) if zero is None else zero
        self.compare(node, 1 / (1 + np.exp(-decoded(x, x_scale, x_zero, 1))), scale, zero)

    def run_QLinearLeakyRelu(self, node: NodeProto) -> None:
        x, x_scale, x_zero, scale, zero = (self.inputs(node) + [None])[:5]
        zero = np.zeros((), x.dtype) if zero is None else zero
        x = decoded(x, x_scale, x_zero, 1)
        self.compare(node, np.where(x < 0, x * float(attribute(node, "alpha", 0.01)), x), scale, zero)

    def run_QLinearSoftmax(self, node: NodeProto) -> None:
        x, x_scale, x_zero, scale, zero = self.inputs(node)
        x = decoded(x, x_scale, x_zero, 1)
        axis = int(attribute(node, "axis", -1))
        # Before version 13 all axes from the first on are one.
        axes = tuple(range(axis % x.ndim, x.ndim)) if int(attribute(node, "opset", 13)) < 13 else axis
        powers = np.exp(x - x.max(axis=axes, keepdims=True))
        self.compare(node, powers / powers.sum(axis=axes, keepdims=True), scale, zero)

    def run_QLinearConcat(self, node: NodeProto) -> None:
        scale, zero, *rest = self.inputs(node)
        parts = [decoded(*rest[at : at + 3], 1) for at in range(0, len(rest), 3)]
        self.compare(node, np.concatenate(parts, int(attribute(node, "axis"))), scale, zero)

    def run_QLinearAveragePool(self, node: NodeProto) -> None:
        x, x_scale, x_zero, scale, zero = (self.inputs(node) + [None])[:5]
        zero = np.zeros((), x.dtype) if zero is None else zero
        self.compare(node, self.float_result(node, "AveragePool", [decoded(x, x_scale, x_zero, 1)]), scale, zero)

    def run_QLinearGlobalAveragePool(self, node: NodeProto) -> None:
        x, x_scale, x_zero, scale, zero = self.inputs(node)
        last = bool(attribute(node, "channels_last", 0))
        axes = tuple(range(1, x.ndim - 1)) if last else tuple(range(2, x.ndim))
        self.compare(node, decoded(x, x_scale, x_zero, 1).mean(axis=axes, keepdims=True), scale, zero)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    for path in options.models:
        model = onnx.load(path)
        spec = read_spec(path)
        evaluation = Evaluation(model, make_feeds(path, spec, spec.bench))
        evaluation.run()
        total += evaluation.count
        for line in evaluation.wrong:
            print(f"  {line}")
        count = evaluation.count
        print(
            f"{path.stem}: {count['values']} values, {count['equal']} as exact, {count['ties']} ties, "
            f"{count['wrong']} wrong",
            flush=True,
        )
    print(f"\n{total['equal'] + total['ties']} passed, {total['wrong']} failed, 0 skipped")
    return 1 if total["wrong"] or not total["values"] else 0


if __name__ == "__main__":
    sys.exit(main())
