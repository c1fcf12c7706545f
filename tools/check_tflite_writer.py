#!/usr/bin/env python3
"""What `apus convert` writes as TensorFlow Lite means what the ONNX model meant.

Over the node models of the ONNX backend suite (a model that TensorFlow Lite cannot say must be refused with the name of
its operator or node, and leave no file), operators that become others (tflite_operators.py, judged by onnxruntime where
it can be imported), random convolutional networks in float32 and with weights in 16 bits,
operators on integers, which may be one step off, and ONNX files that the command line names. Every file is read
back and run by Apus; where ai-edge-litert or TensorFlow can be imported, its interpreter runs it, too. Ends with
the line `N passed, N failed, N skipped`. Run it with the python that `tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import tflite_operators
from check_imports import difference

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 600
# Of the largest magnitude of an output: sums in another order.
RELATIVE = 1e-5
# The same with weights in 16 bits, which have 11 bits.
HALVES = 2e-2
# The interpreter's sums and products make the largest number of an infinity.
LARGEST = np.finfo(np.float32).max
# Models of which it computes something else for that reason, by parts of their names: rows of scores that are all
# masked are no numbers in ONNX, and zeros then, and all alike to the interpreter.
DIFFERENT = ("boolmask_nan_robustness", "negative_offset_structural_empty")
Arrays = dict[str, np.ndarray]


class Interpreter:
    """TensorFlow Lite's interpreter in a process of its own, which it may end."""

    def __init__(self, delegates: bool) -> None:
        self.delegates, self.process, self.lock = delegates, None, threading.Lock()

    @staticmethod
    def exists() -> bool:
        command = [sys.executable, __file__, "--interpreter", "probe"]
        return subprocess.run(command, capture_output=True).returncode == 0

    def run(self, model: Path, inputs: Arrays, folder: Path) -> Arrays:
        np.savez(folder / "lite-in.npz", **{f"/{name}": value for name, value in inputs.items()})
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                command = [sys.executable, __file__, "--interpreter", "delegates" if self.delegates else "plain"]
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            self.process.stdin.write(json.dumps([str(model), str(folder)]) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the interpreter ended")
        if message := json.loads(answer):
            raise RuntimeError(f"the interpreter: {message}")
        with np.load(folder / "lite-out.npz") as archive:
            return {name[1:]: archive[name] for name in archive.files}


def interpret(kind: str) -> None:
    """The other side of `Interpreter`: a model and a folder in each line, an error or nothing in each answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        from ai_edge_litert import interpreter as lite
    except ImportError:
        from tensorflow import lite  # type: ignore[no-redef]
    if kind == "probe":
        return
    resolvers = getattr(lite, "OpResolverType", None) or lite.experimental.OpResolverType
    resolver = resolvers.BUILTIN if kind == "delegates" else resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    for line in sys.stdin:
        model, folder = json.loads(line)
        message = ""
        try:
            interpreter = lite.Interpreter(model, experimental_op_resolver_type=resolver, num_threads=1)
            runner = interpreter.get_signature_runner("serving_default")
            with np.load(f"{folder}/lite-in.npz") as archive:
                outputs = runner(**{name[1:]: archive[name] for name in archive.files})
            np.savez(f"{folder}/lite-out.npz", **{f"/{name}": value for name, value in outputs.items()})
        except Exception as error:  # Whatever it is, the caller shall know.
            message = f"{type(error).__name__}: {error}"[:400]
        answers.write(json.dumps(message) + "\n")
        answers.flush()


class Check:
    def __init__(self, options: argparse.Namespace) -> None:
        self.apus = str(options.apus)
        self.interpreter = Interpreter(options.delegates) if Interpreter.exists() else None
        self.passed = 0
        self.written = 0
        self.failures: dict[str, str] = {}
        self.refused: Counter[str] = Counter()
        self.lock = threading.Lock()

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.apus, *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS, errors="replace"
        )

    def run(self, model: Path, inputs: Arrays, folder: Path) -> Arrays:
        """What Apus computes."""
        arguments: list[str | Path] = ["run", model, "-o", folder / "out.npz"]
        for index, (name, value) in enumerate(inputs.items()):
            np.save(folder / f"{index}.npy", value)
            arguments += ["--input", f"{name}={folder / f'{index}.npy'}"]
        done = self.command(*arguments)
        if done.returncode:
            raise RuntimeError(f"apus run: {done.stderr.strip()[:400]}")
        with np.load(folder / "out.npz") as archive:
            return {name: archive[name] for name in archive.files}

    def model(
        self, name: str, source: Path, inputs: Arrays, expected: Arrays | None, *, arguments: tuple[str, ...] = (),
        steps: float = 0, tolerance: float = RELATIVE, must: bool = False,
    ) -> None:
        """Writes a model and compares what it computes: with `expected`, or with what Apus computes of the source.
        `steps` are those of the outputs of quantized models, of which one is allowed."""
        with tempfile.TemporaryDirectory(prefix="apus-tflite-") as place:
            folder = Path(place)
            fault = self.fault(source, inputs, expected, folder, arguments, steps, tolerance, must)
        with self.lock:
            if fault:
                self.failures[name] = fault
                print(f"FAILED {name}: {fault}", flush=True)
            else:
                self.passed += 1

    def fault(
        self, source: Path, inputs: Arrays, expected: Arrays | None, folder: Path, arguments: tuple[str, ...],
        steps: float, tolerance: float, must: bool,
    ) -> str:
        target = folder / "model.tflite"
        done = self.command("convert", source, "-o", target, *arguments)
        if done.returncode:
            return self.refusal(done, target, must)
        self.written += 1
        runs = [("apus", self.run)]
        # The interpreter gives no results without elements.
        isEmpty = any(value.size == 0 for value in (expected or {}).values())
        if self.interpreter and not isEmpty and not any(part in str(source) for part in DIFFERENT):
            runs.append(("litert", self.interpreter.run))
        try:
            expected = self.run(source, inputs, folder) if expected is None else expected
            faults = [
                f"{who}: {fault}" for who, run in runs
                for fault in self.compare(expected, run(target, inputs, folder), steps, tolerance)
            ]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return str(error)
        return "; ".join(faults)

    def refusal(self, done: subprocess.CompletedProcess[str], target: Path, must: bool) -> str:
        """What is wrong with a model that was not written: nothing if something of it cannot be said."""
        text = done.stderr.strip()
        if done.returncode != 1 or must or target.exists():
            return f"exit status {done.returncode}: {text[:500]}"
        names = re.findall(r"nothing that computes (\S+),|^  - [^:\n]*: (\w+): ", text, re.MULTILINE)
        if not names:
            return f"refused without a name: {text[:500]}"
        with self.lock:
            self.refused.update({a or b for a, b in names})
        return ""

    @staticmethod
    def compare(expected: Arrays, found: Arrays, steps: float, tolerance: float) -> list[str]:
        faults = []
        for name, value in expected.items():
            if name not in found:
                faults.append(f"output '{name}' is missing; there are {list(found)}")
                continue
            other = found[name]
            if steps and value.shape == other.shape and value.dtype.kind == "f":
                off = np.abs(value - other).max() / steps if value.size else 0
                if off > 1.01:
                    faults.append(f"{name}: {off:.2f} steps off")
                continue
            if value.dtype == other.dtype == np.float32:
                value, other = np.clip(value, -LARGEST, LARGEST), np.clip(other, -LARGEST, LARGEST)
            _, fault = difference(value, other, int(steps), tolerance)
            if fault:
                faults.append(f"{name}: {fault}")
        return faults


# MARK: - Models

def backend(check: Check, options: argparse.Namespace, pool: concurrent.futures.Executor) -> list:
    jobs = []
    folders = sorted(path.parent for path in options.suite.glob("node/*/model.onnx"))
    for folder in folders[:: options.every]:
        if options.only in folder.name:
            jobs.append(pool.submit(backend_case, check, folder))
    return jobs


def backend_case(check: Check, folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    initial = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in initial]
    data = folder / "test_data_set_0"
    try:
        inputs = {name: numpy_helper.to_array(onnx.load_tensor(data / f"input_{i}.pb")) for i, name in enumerate(names)}
        expected = {
            value.name: numpy_helper.to_array(onnx.load_tensor(data / f"output_{i}.pb"))
            for i, value in enumerate(model.graph.output)
        }
    except Exception:  # Sequences, optionals and what NumPy does not know: they must be refused.
        inputs, expected = {}, {}
    # The suite's own tolerance where it is wider: functions of large arguments.
    check.model(f"node/{folder.name}", folder / "model.onnx", inputs, expected, tolerance=1e-3)


class Network:
    """A random convolutional network: convolutions, poolings and what stands between them, with branches."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.isSymbolic = seed % 2 == 1
        sizes = map(int, self.draw.integers(8, 18, 2))
        self.start = (1 if self.isSymbolic else 2, int(self.draw.integers(2, 6)), *sizes)
        self.shape = self.start
        value = "x"
        kinds = [self.convolution, self.convolution, self.depthwise, self.residual, self.gate, self.pool, self.branches]
        kinds += [self.shuffle, self.resize, self.activation, self.normalization, self.blocks, self.attention]
        for _ in range(int(self.draw.integers(4, 9))):
            value = kinds[self.draw.integers(len(kinds))](value)
            if self.draw.random() < 0.3:
                value = self.activation(value)
        if self.draw.random() < 0.7:
            value = self.head(value)
        outputs = [value] if self.draw.random() < 0.8 else [value, self.nodes[len(self.nodes) // 2].output[0]]
        shape = ["batch" if self.isSymbolic else self.start[0], *self.start[1:]]
        graph = helper.make_graph(
            self.nodes, f"random_{seed}", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in dict.fromkeys(outputs)],
            self.weights,
        )
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], f"{op}_{len(self.nodes)}", **attributes))
        return name

    def constant(self, array: object, kind: type = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array, kind), name))
        return name

    def convolution(self, x: str, results: int = 0, group: int = 1) -> str:
        batch, channels, *size = self.shape
        kernel = int(self.draw.choice([1, 3, 3, 5]))
        stride = int(self.draw.choice([1, 1, 2])) if not results and min(size) > 6 else 1
        results = results or int(self.draw.integers(2, 9))
        depth = channels // group
        filters = self.draw.normal(0, (depth * kernel * kernel) ** -0.5, (results, depth, kernel, kernel))
        operands = [x, self.constant(filters), self.constant(self.draw.normal(0, 0.1, results))]
        pads = [kernel // 2] * 4
        y = self.add("Conv", *operands, pads=pads, strides=[stride] * 2, group=group)
        self.shape = (batch, results, *((extent - 1) // stride + 1 for extent in size))
        return self.activation(y) if self.draw.random() < 0.7 else y

    def depthwise(self, x: str) -> str:
        channels = self.shape[1]
        return self.convolution(x, channels * int(self.draw.choice([1, 1, 2])), channels)

    def residual(self, x: str) -> str:
        return self.activation(self.add("Add", x, self.convolution(x, self.shape[1])))

    def gate(self, x: str) -> str:
        count = self.shape[1]
        filters = self.constant(self.draw.normal(0, 0.5, (count, count, 1, 1)))
        return self.add("Mul", x, self.add("Sigmoid", self.add("Conv", self.add("GlobalAveragePool", x), filters)))

    def branches(self, x: str) -> str:
        shape = self.shape
        first, one = self.convolution(x, int(self.draw.integers(1, 4))), self.shape[1]
        self.shape = shape
        second, two = self.convolution(x, int(self.draw.integers(1, 4))), self.shape[1]
        self.shape = (shape[0], one + two, *shape[2:])
        return self.add("Concat", first, second, axis=1)

    def pool(self, x: str) -> str:
        batch, channels, *size = self.shape
        stride = int(self.draw.choice([1, 2])) if min(size) > 6 else 1
        op = str(self.draw.choice(["MaxPool", "AveragePool"]))
        extra = {"count_include_pad": int(self.draw.integers(2))} if op == "AveragePool" else {}
        y = self.add(op, x, kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2, **extra)
        self.shape = (batch, channels, *((extent - 1) // stride + 1 for extent in size))
        return y

    def activation(self, x: str) -> str:
        kind = str(self.draw.choice(["Relu", "Relu", "Clip", "Swish", "Sigmoid", "HardSwish", "LeakyRelu", "PRelu"]))
        if kind == "Clip":
            return self.add("Clip", x, self.constant(0), self.constant(6))
        if kind == "PRelu":
            return self.add("PRelu", x, self.constant(self.draw.uniform(0, 0.5, (self.shape[1], 1, 1))))
        return self.add("Mul", x, self.add("Sigmoid", x)) if kind == "Swish" else self.add(kind, x)

    def normalization(self, x: str) -> str:
        count = self.shape[1]
        scale, bias, mean = self.draw.uniform(0.5, 1.5, count), *self.draw.normal(0, 0.2, (2, count))
        parts = [scale, bias, mean, self.draw.uniform(0.5, 2, count)]
        return self.add("BatchNormalization", x, *map(self.constant, parts))

    def attention(self, x: str) -> str:
        """The products of all channels with each other."""
        batch, channels, *size = self.shape
        if size[0] * size[1] > 100:
            return x
        rows = self.add("Reshape", x, self.constant([0, channels, -1], np.int64))
        products = self.add("MatMul", rows, self.add("Transpose", rows, perm=[0, 2, 1]))
        if self.draw.random() < 0.5:
            products = self.add("Relu", products)
        mixed = self.add("MatMul", self.add("Softmax", products, axis=-1), rows)
        return self.add("Reshape", mixed, self.constant([0, channels, *size], np.int64))

    def shuffle(self, x: str) -> str:
        """The channels of two groups in turn, as ShuffleNet has them."""
        batch, channels, *size = self.shape
        if channels % 2:
            return x
        pairs = self.constant([-1, 2, channels // 2, *size], np.int64)
        whole = self.constant([-1, channels, *size], np.int64)
        return self.add("Reshape", self.add("Transpose", self.add("Reshape", x, pairs), perm=[0, 2, 1, 3, 4]), whole)

    def resize(self, x: str) -> str:
        batch, channels, *size = self.shape
        if max(size) > 20:
            return x
        mode = str(self.draw.choice(["nearest", "linear"]))
        way = str(self.draw.choice(["half_pixel", "asymmetric", "align_corners"]))
        rounding = {"nearest_mode": "floor"} if mode == "nearest" else {}
        scales = self.constant([1, 1, 2, 2])
        self.shape = (batch, channels, *(2 * extent for extent in size))
        return self.add("Resize", x, "", scales, mode=mode, coordinate_transformation_mode=way, **rounding)

    def blocks(self, x: str) -> str:
        batch, channels, *size = self.shape
        if channels % 4 or max(size) > 20:
            return x
        self.shape = (batch, channels // 4, *(2 * extent for extent in size))
        return self.add("DepthToSpace", x, blocksize=2, mode=str(self.draw.choice(["DCR", "CRD"])))

    def head(self, x: str) -> str:
        count = self.shape[1]
        rows = self.add("Flatten", self.add("GlobalAveragePool", x))
        weights, bias = self.constant(self.draw.normal(0, 0.3, (5, count))), self.constant(self.draw.normal(0, 0.3, 5))
        y = self.add("Gemm", rows, weights, bias, transB=1)
        return self.add("Softmax", y, axis=1) if self.draw.random() < 0.5 else y

    def inputs(self, seed: int) -> Arrays:
        return {"x": np.random.default_rng(seed).normal(size=self.start).astype(np.float32)}


def random_networks(
    check: Check, options: argparse.Namespace, folder: Path, pool: concurrent.futures.Executor
) -> list:
    jobs = []
    for seed in range(options.seed, options.seed + options.count):
        network, path = Network(seed), folder / f"random_{seed}.onnx"
        if options.only not in path.stem:
            continue
        onnx.save(network.model, path)
        jobs.append(pool.submit(random_case, check, path, network.inputs(seed)))
    return jobs


def random_case(check: Check, path: Path, inputs: Arrays) -> None:
    check.model(path.stem, path, inputs, None, must=True)
    check.model(f"{path.stem} --float16", path, inputs, None, arguments=("--float16",), tolerance=HALVES, must=True)


class QuantizedOperator:
    """An operator between DequantizeLinear and QuantizeLinear, as quantizers of ONNX models write it."""

    KINDS = ["Conv", "Depthwise", "Gemm", "MatMul", "Add", "Mul", "Sub", "MaxPool", "AveragePool", "ReduceMean"]
    KINDS += ["Concat", "Resize", "Sigmoid", "Tanh", "Softmax", "Relu", "LeakyRelu", "HardSwish", "Transpose"]
    KINDS += ["Reshape", "Pad", "Split", "Exp", "GroupedConv", "DepthToSpace"]

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.kind = self.KINDS[seed % len(self.KINDS)]
        self.type = np.int8 if self.draw.random() < 0.5 else np.uint8
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        channels = 4 * int(self.draw.integers(1, 3))
        self.shape = (2, channels, *map(int, self.draw.integers(5, 9, 2)))
        if self.kind in ("Gemm", "MatMul", "Softmax"):
            self.shape = (3, channels)
        value, self.step = self.result(self.codes("x", 2.0))
        shape = ["batch", *self.shape[1:]] if self.draw.random() < 0.3 else self.shape
        graph = helper.make_graph(
            self.nodes, self.kind, [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)], self.weights,
        )
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    add, constant = Network.add, Network.constant

    def codes(self, value: str, largest: float, scale: float = 0, zero: int | None = None) -> str:
        """A value encoded and decoded; `largest` is the end of its range."""
        low = 0 if self.type == np.uint8 else -128
        zero = int(self.draw.integers(100, 156)) - 128 if zero is None else zero
        self.last = scale or largest / 100
        parameters = [self.constant(self.last), self.constant(zero + low + 128, self.type)]
        return self.add("DequantizeLinear", self.add("QuantizeLinear", value, *parameters), *parameters)

    def filters(self, *shape: int, axis: int = 0) -> str:
        codes = self.constant(self.draw.integers(-127, 128, shape), np.int8)
        scales = self.draw.uniform(0.002, 0.01, shape[axis])
        zeros = self.constant(np.zeros(shape[axis]), np.int8)
        return self.add("DequantizeLinear", codes, self.constant(scales), zeros, axis=axis)

    def result(self, x: str) -> tuple[str, float]:
        kind, count, draw = self.kind, self.shape[1], self.draw
        fixed = {"Sigmoid": (1 / 256, -128), "Softmax": (1 / 256, -128), "Tanh": (1 / 128, 0)}
        attributes: dict[str, object] = {}
        largest = 3.0
        if kind in ("Conv", "GroupedConv", "Depthwise"):
            group = {"Conv": 1, "GroupedConv": 2, "Depthwise": count}[kind]
            results = count if kind != "Conv" else 6
            bias = self.constant(draw.normal(0, 0.3, results))
            filters = self.filters(results, count // group, 3, 3)
            y = self.add("Conv", x, filters, bias, pads=[1] * 4, group=group)
            y, largest = (self.add("Relu", y) if draw.random() < 0.5 else y), 6.0
        elif kind == "Gemm":
            y = self.add("Gemm", x, self.filters(5, count), self.constant(draw.normal(0, 0.3, 5)), transB=1)
        elif kind == "MatMul":
            y = self.add("MatMul", x, self.filters(count, 5, axis=1))
        elif kind in ("Add", "Mul", "Sub"):
            y = self.add(kind, x, self.codes(self.add("Sigmoid", "x"), 1.0))
        elif kind == "Concat":
            y, largest = self.add(kind, x, self.codes(self.add("Sigmoid", "x"), 1.0), axis=1), 2.0
        elif kind == "ReduceMean":
            y, largest = self.add(kind, x, axes=[2, 3], keepdims=int(draw.integers(2))), 1.0
        elif kind == "Resize":
            y = self.add(kind, x, "", self.constant([1, 1, 2, 2]), mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric")
        elif kind == "Pad":
            y = self.add(kind, x, self.constant([0, 0, 1, 2, 0, 0, 0, 1], np.int64))
        elif kind == "Split":
            self.nodes.append(helper.make_node("Split", [x], ["first", "second"], "Split", axis=1))
            y = self.add("Add", "first", "second")
        else:
            if kind in ("MaxPool", "AveragePool"):
                attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
            elif kind == "Transpose":
                attributes = {"perm": [0, 2, 3, 1]}
            elif kind == "DepthToSpace":
                attributes = {"blocksize": 2, "mode": str(draw.choice(["CRD", "DCR"]))}
            extra = [self.constant([0, -1], np.int64)] if kind == "Reshape" else []
            y = self.add(kind, x, *extra, **attributes)
            largest = 8.0 if kind == "Exp" else 2.0
        if kind in ("MaxPool", "AveragePool", "Transpose", "Reshape", "Resize", "Pad", "DepthToSpace"):
            # As quantizers do it: what moves elements has one scale.
            first = self.nodes[0]
            z = self.add("DequantizeLinear", self.add("QuantizeLinear", y, *first.input[1:]), *first.input[1:])
            return z, 2.0 / 100
        scale, zero = fixed.get(kind, (0, None))
        z = self.codes(y, largest, scale, zero)
        return z, self.last


def quantized_operators(
    check: Check, options: argparse.Namespace, folder: Path, pool: concurrent.futures.Executor
) -> list:
    jobs = []
    for seed in range(options.seed, options.seed + 2 * options.count):
        case = QuantizedOperator(seed)
        path = folder / f"quantized_{case.kind}_{seed}.onnx"
        if options.only not in path.stem:
            continue
        onnx.save(case.model, path)
        inputs = {"x": np.random.default_rng(seed).normal(size=case.shape).astype(np.float32)}
        jobs.append(pool.submit(check.model, path.stem, path, inputs, None, steps=case.step, must=True))
    return jobs


def operators(check: Check, options: argparse.Namespace, folder: Path, pool: concurrent.futures.Executor) -> list:
    jobs = []
    for name, model, inputs in tflite_operators.cases(options.seed):
        path = folder / f"operator_{name}.onnx"
        if options.only not in path.stem:
            continue
        onnx.save(model, path)
        jobs.append(pool.submit(check.model, path.stem, path, inputs, reference(path, inputs), must=True))
    return jobs


def reference(path: Path, inputs: Arrays) -> Arrays | None:
    """What onnxruntime computes; None without it."""
    try:
        import onnxruntime
    except ImportError:
        return None
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    # Sums of bytes are exact on machines without VNNI, too.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def named(check: Check, options: argparse.Namespace, pool: concurrent.futures.Executor) -> list:
    """Files of the caller's own, on random inputs."""
    jobs = []
    for path in options.models:
        draw, inputs = np.random.default_rng(0), {}
        model = onnx.load(path, load_external_data=False)
        initial = {tensor.name for tensor in model.graph.initializer}
        for value in model.graph.input:
            if value.name in initial:
                continue
            tensor = value.type.tensor_type
            shape = [dim.dim_value or 2 for dim in tensor.shape.dim]
            inputs[value.name] = draw.normal(size=shape).astype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        jobs.append(pool.submit(check.model, path.name, path, inputs, None, must=True))
    return jobs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", help="ONNX files to check beside, or with --count 0 alone")
    parser.add_argument("--apus", type=Path, default=ROOT / ".build/release/apus")
    parser.add_argument("--suite", type=Path, default=ROOT / ".cache/onnx-backend-tests")
    parser.add_argument("--only", default="", help="models whose name has this in it")
    parser.add_argument("--every", type=int, default=1, help="take one of so many models of the suite")
    parser.add_argument("--count", type=int, default=40, help="random networks; without any the suite is left out, too")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--delegates", action="store_true", help="let the interpreter use its delegates")
    parser.add_argument("--list", action="store_true", help="show what was refused")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--interpreter", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.interpreter:
        interpret(options.interpreter)
        return 0
    check = Check(options)
    if not check.interpreter:
        print("neither ai-edge-litert nor TensorFlow is there; what is written is run by Apus alone")
    with (
        tempfile.TemporaryDirectory(prefix="apus-tflite-") as place,
        concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
    ):
        jobs = named(check, options, pool)
        if options.count:
            jobs += operators(check, options, Path(place), pool)
            jobs += random_networks(check, options, Path(place), pool)
            jobs += quantized_operators(check, options, Path(place), pool)
            jobs += backend(check, options, pool)
        for job in jobs:
            job.result()
    refused = sum(check.refused.values())
    print(f"{check.written} models written; {refused} times an operator was refused")
    if options.list:
        print(", ".join(f"{op} {count}" for op, count in check.refused.most_common()))
    print(f"{check.passed} passed, {len(check.failures)} failed, 0 skipped")
    return int(bool(check.failures) or not check.passed)


if __name__ == "__main__":
    sys.exit(main())
