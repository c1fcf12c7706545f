"""quantize, prune, cluster, sparsity: the files run in onnxruntime and are close to the float model; misuse is an error
that leaves no file; what a caller's functions raise comes through."""

from __future__ import annotations

import _thread
import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

sys.path[:0] = [str(Path(__file__).resolve().parent)]
from models_for_tests import MODELS, ROOT, tensor

import apus

RUNTIME = onnxruntime.SessionOptions()
RUNTIME.log_severity_level = 3
# Where a machine has no products of four bytes, onnxruntime's sums of two overflow without it. With it, it refuses some
# models with weights of few bits.
EXACT = onnxruntime.SessionOptions()
EXACT.log_severity_level = 3
EXACT.add_session_config_entry("session.x64quantprecision", "1")


def graph_model(nodes: list[Any], inputs: dict[str, Any], outputs: list[str], constants: dict[str, Any]) -> Any:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_value_info(name, kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "width"]) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model


def network(draw: np.random.Generator) -> Any:
    """Two convolutions and a product."""
    weights = {
        "w1": draw.standard_normal((8, 3, 3, 3)).astype(np.float32) / 4,
        "b1": draw.standard_normal(8).astype(np.float32) / 4,
        "w2": draw.standard_normal((8, 8, 3, 3)).astype(np.float32) / 8,
        "w3": draw.standard_normal((8 * 64, 10)).astype(np.float32) / 16,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Flatten", ["r2"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "w3"], ["y"], "last"),
    ]
    return graph_model(nodes, {"x": tensor(TensorProto.FLOAT, ["n", 3, 8, 8])}, ["y"], weights)


def perceptron(draw: np.random.Generator, depth: int = 128) -> Any:
    """Two products with a Gelu between and a second input."""
    weights = {
        "w1": draw.standard_normal((depth, depth)).astype(np.float32) / 8,
        "w2": draw.standard_normal((depth, depth)).astype(np.float32) / 8,
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "up"),
        helper.make_node("Gelu", ["h"], ["g"], "gelu"),
        helper.make_node("MatMul", ["g", "w2"], ["d"], "down"),
        helper.make_node("Add", ["d", "shift"], ["y"], "add"),
    ]
    kinds = {"x": tensor(TensorProto.FLOAT, ["n", depth]), "shift": tensor(TensorProto.FLOAT, [depth])}
    return graph_model(nodes, kinds, ["y"], weights)


def decibels(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10((wanted.astype(float) ** 2).sum() / ((found.astype(float) - wanted) ** 2).sum()))


def judged(model: Any, feeds: dict[str, np.ndarray], options: Any = RUNTIME) -> np.ndarray:
    """What onnxruntime computes, of a model, its bytes or its path."""
    if hasattr(model, "SerializeToString"):
        model = model.SerializeToString()
    source = os.fspath(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"]).run(None, feeds)[0]


def operators(model: bytes | Path) -> list[str]:
    loaded = onnx.load(model) if isinstance(model, Path) else onnx.load_from_string(model)
    return [node.op_type for node in loaded.graph.node]


class Case(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="apus-compression-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        draw = np.random.default_rng(11)
        self.network = network(draw)
        self.images = draw.standard_normal((24, 3, 8, 8)).astype(np.float32)
        self.wanted = judged(self.network, {"x": self.images})
        self.perceptron = perceptron(draw)
        self.rows = draw.standard_normal((16, 128)).astype(np.float32)
        self.shift = draw.standard_normal(128).astype(np.float32)
        self.feeds = {"x": self.rows, "shift": self.shift}

    def samples(self) -> list[dict[str, np.ndarray]]:
        return [{"x": image[None]} for image in self.images]

    def close(self, made: apus.CompressedModel, least: float) -> None:
        """In onnxruntime, and here: as close to the float model as that, and to each other within a step or so."""
        theirs = judged(made.to_bytes(), {"x": self.images}, EXACT)
        ours = made.session().run(None, {"x": self.images})[0]
        self.assertGreater(decibels(self.wanted, theirs), least)
        self.assertGreater(decibels(self.wanted, ours), least)
        self.assertLess(np.abs(ours - theirs).max(), 0.02 * np.abs(self.wanted).max())


class Integers(Case):
    def test_samples_in_every_form_make_the_same_file(self) -> None:
        archive = self.folder / "samples.npz"
        np.savez(archive, x=self.images)
        packed = self.folder / "packed.npz"
        np.savez_compressed(packed, x=self.images)
        forms: dict[str, Any] = {
            "dictionaries": self.samples(),
            "arrays": [image[None] for image in self.images],
            "generator": ({"x": image[None]} for image in self.images),
            "function": lambda: iter(self.samples()),
            "array": self.images,
            "array with an axis more": self.images[:, None],
            "arrays by name": {"x": self.images},
            "archive": archive,
            "packed archive": str(packed),
            "lists": [image[None].tolist() for image in self.images],
        }
        files = {name: apus.quantize(self.network, calibrate=form).to_bytes() for name, form in forms.items()}
        for name, file in files.items():
            self.assertEqual(file, files["dictionaries"], name)

    def test_a_file_that_others_run(self) -> None:
        path = self.folder / "q.onnx"
        made = apus.quantize(self.network, path, calibrate=iter(self.samples()), range="mse")
        self.assertEqual(path.read_bytes(), made.to_bytes())
        self.close(made, 30)
        self.assertEqual([row["name"] for row in made.nodes], ["first", "second", "last"])
        self.assertEqual((made.kept, made.report["calibration_samples"], made.report["measured_samples"]), ([], 24, 8))
        (output,) = made.outputs
        # The report against NumPy, on the samples that it was measured on.
        found = made.session().run(None, {"x": self.images[:8]})[0]
        self.assertAlmostEqual(output["sqnr"], decibels(self.wanted[:8], found), 1)
        self.assertAlmostEqual(output["largest_error"], np.abs(found - self.wanted[:8]).max(), 3)
        self.assertEqual(made.report, json.loads(made.json()))
        made.html(self.folder / "r.html")
        page = (self.folder / "r.html").read_text()
        self.assertIn("<svg", page)
        self.assertNotIn("http", page)
        self.assertIn("3 nodes", repr(made))

    def test_options_reach_the_quantizer(self) -> None:
        shown: dict[str, dict[str, Any]] = {
            "range": {"range": "percentile", "percentile": 99.0},
            "mse": {"range": "mse"},
            "types": {"activations": "int8", "symmetric": True, "per_tensor": True, "asymmetric_weights": True},
            "target": {"target": "vnni"},
            "losses": {"equalize": True, "correct_bias": True},
            "path": {"static": True, "weights": "int8", "threads": 1, "rank": True, "measure": 2},
        }
        for name, options in shown.items():
            with self.subTest(name):
                made = apus.quantize(self.network, calibrate=self.samples(), **options)
                self.close(made, 15 if name == "range" else 20)
        self.assertEqual((len(made.report["ranking"]), made.report["measured_samples"]), (3, 2))
        integers = apus.quantize(self.network, calibrate=self.images, format="qoperator")
        self.close(integers, 25)
        self.assertIn("QLinearConv", operators(integers.to_bytes()))
        some = apus.quantize(self.network, calibrate=self.images, exclude="Conv")
        self.assertEqual([row["name"] for row in some.nodes], ["last"])
        some = apus.quantize(self.network, calibrate=self.images, include=["fir*", "second"])
        self.assertEqual([row["name"] for row in some.nodes], ["first", "second"])
        some = apus.quantize(self.network, calibrate=self.images, overrides={"x": {"low": -4, "high": np.float32(4)}})
        self.assertAlmostEqual(some.nodes[0]["scale"], 8 / 255, 6)

    def test_a_model_from_a_path_and_from_bytes(self) -> None:
        path = self.folder / "m.onnx"
        onnx.save(self.network, path)
        first = apus.quantize(path, calibrate=self.images)
        second = apus.quantize(self.network.SerializeToString(), calibrate=self.images)
        self.assertEqual(first.to_bytes(), second.to_bytes())
        self.assertEqual((first.report["model"], second.report["model"]), ("m.onnx", "model"))
        apus.quantize(path, path, calibrate=self.images)
        self.assertEqual(path.read_bytes(), first.to_bytes())
        first.save(path, opset=21)
        self.assertEqual(onnx.load(path).opset_import[0].version, 21)

    def test_samples_are_not_kept(self) -> None:
        alive: list[weakref.ref[np.ndarray]] = []
        most = 0

        def generator() -> Iterator[dict[str, np.ndarray]]:
            nonlocal most
            for number in range(200):
                array = self.images[number % 24][None] + np.float32(number)
                alive.append(weakref.ref(array))
                yield {"x": array}
                del array
                most = max(most, sum(reference() is not None for reference in alive))

        made = apus.quantize(self.network, calibrate=generator())
        self.assertEqual(made.report["calibration_samples"], 200)
        self.assertLessEqual(most, 3)

    def test_iterators_serve_once(self) -> None:
        rows = [{"x": row[None], "shift": self.shift} for row in self.rows]
        with self.assertRaisesRegex(apus.InputError, "can be gone through once"):
            apus.quantize(self.perceptron, calibrate=iter(rows), smooth=0.5)
        # Few enough to be kept for the measurement.
        apus.quantize(self.perceptron, calibrate=iter(rows[:4]), smooth=0.5)
        for form in (rows, lambda: iter(rows), {"x": self.rows, "shift": self.shift}):
            made = apus.quantize(self.perceptron, calibrate=form, smooth=0.5)
            found = judged(made.to_bytes(), self.feeds)
            self.assertGreater(decibels(judged(self.perceptron, self.feeds), found), 25)

    def test_dynamic(self) -> None:
        made = apus.quantize(self.perceptron, dynamic=True)
        self.assertEqual([row["name"] for row in made.nodes], ["up", "down"])
        found = judged(made.to_bytes(), self.feeds)
        self.assertGreater(decibels(judged(self.perceptron, self.feeds), found), 25)
        self.assertIn("MatMulInteger", operators(made.to_bytes()))

    def test_a_calibration_is_stored_and_used(self) -> None:
        stored = self.folder / "c.json"
        first = apus.quantize(self.network, calibrate=self.samples(), save_calibration=stored, range="entropy")
        second = apus.quantize(self.network, calibration=stored, range="entropy")
        self.assertEqual(first.to_bytes(), second.to_bytes())
        third = apus.quantize(self.network, calibration=str(stored), calibrate=iter(self.samples()), range="entropy")
        self.assertEqual(third.outputs, first.outputs)
        cache = self.folder / "trt.cache"
        apus.quantize(self.network, calibration=stored, target="tensorrt", tensorrt_cache=cache)
        self.assertRegex(cache.read_text().splitlines()[1], r"^.+: [0-9a-f]{8}$")

    def test_a_target_in_decibels(self) -> None:
        made = apus.quantize(self.network, calibrate=self.images, static=True, weights="int4", target_sqnr=16)
        self.assertTrue(made.kept and made.report["ranking"])
        self.assertGreaterEqual(made.report["trade_offs"][-1]["quality"], 16)
        self.close(made, 15)

    def test_a_target_that_the_caller_measures(self) -> None:
        labels = self.wanted.argmax(axis=1)
        seen: list[float] = []

        def accuracy(session: apus.InferenceSession) -> float:
            self.assertEqual(session.get_inputs()[0].name, "x")
            seen.append(float((session.run(None, {"x": self.images})[0].argmax(axis=1) == labels).mean()))
            return seen[-1]

        options: dict[str, Any] = {"static": True, "weights": "int4", "threads": 1, "evaluate": accuracy}
        made = apus.quantize(self.network, calibrate=iter(self.samples()), target_accuracy=0.9, **options)
        self.assertTrue(made.kept)
        self.assertGreaterEqual(float((judged(made.to_bytes(), {"x": self.images}).argmax(1) == labels).mean()), 0.9)
        self.assertEqual(sorted({point["quality"] for point in made.report["trade_offs"]}), sorted(set(seen)))
        with self.assertRaisesRegex(apus.CompressionError, "the best was") as caught:
            apus.quantize(self.network, calibrate=self.images, target_accuracy=2, evaluate=accuracy)
        self.assertEqual(caught.exception.code, apus.ErrorCode.TARGET_NOT_MET)


class Weights(Case):
    def test_few_bits(self) -> None:
        wanted = judged(self.perceptron, self.feeds)
        rows = [{"x": row[None], "shift": self.shift} for row in self.rows]
        sizes = {}
        cases: list[tuple[dict[str, Any], float]] = [
            ({"weights": "int8"}, 40),
            ({"weights": "int4", "block": 32}, 15),
            ({"weights": "int4", "block": 64, "method": "hqq", "zero_points": True}, 15),
            ({"weights": "int4", "block": 32, "method": "gptq", "calibrate": iter(rows), "act_order": True}, 15),
            ({"weights": "int4", "method": "awq", "calibrate": rows}, 15),
            ({"weights": "int4", "block": "channel"}, 12),
            ({"weights": "int4", "weight_type": {"up": "int8"}}, 15),
            ({"weights": "int8", "weight_format": "qdq", "include": "down"}, 40),
        ]
        for options, least in cases:
            with self.subTest(**options):
                made = apus.quantize(self.perceptron, **options)
                sizes[str(options)] = len(made.to_bytes())
                self.assertGreater(decibels(wanted, judged(made.to_bytes(), self.feeds)), least)
                ours = made.session().run(None, self.feeds)[0]
                self.assertGreater(decibels(wanted, ours), least)
        self.assertEqual([weight["weight"] for weight in made.weights], ["w2"])
        self.assertLess(sizes[str(cases[1][0])], 0.7 * sizes[str(cases[0][0])])

    def test_16_bits(self) -> None:
        halves = {"float16": True}
        for options, least in ((halves, 50), ({"bfloat16": True}, 30), (halves | {"keep": "up"}, 50)):
            path = self.folder / "m.onnx"
            onnx.save(self.perceptron, path)
            made = apus.quantize(path, path, **options)  # type: ignore[arg-type]
            found = made.session().run(None, self.feeds)[0]
            self.assertGreater(decibels(judged(self.perceptron, self.feeds), found), least)
            self.assertEqual(path.read_bytes(), made.to_bytes())
            if "float16" in options:
                self.assertGreater(decibels(judged(self.perceptron, self.feeds), judged(path, self.feeds)), least)
        self.assertEqual([node["node"] for node in made.kept], ["up"])
        with self.assertRaisesRegex(apus.InputError, "report as a page"):
            made.html(self.folder / "r.html")


class Others(Case):
    def test_prune(self) -> None:
        made = apus.prune(self.network, self.folder / "p.onnx", magnitude=0.5)
        for proto in onnx.load(self.folder / "p.onnx").graph.initializer:
            array = numpy_helper.to_array(proto)
            if array.ndim > 1:
                self.assertAlmostEqual((array == 0).mean(), 0.5, 2)
        report = apus.sparsity(made.to_bytes())
        self.assertEqual(report["zeros"], sum(row["zeros_after"] for row in made.weights))
        self.assertEqual(apus.sparsity(self.network)["zeros"], 0)

        fewer = apus.prune(self.network, structured=0.25, importance={"first": np.arange(8)})
        shapes = {
            proto.dims[0] for proto in onnx.load_from_string(fewer.to_bytes()).graph.initializer if len(proto.dims) == 4
        }
        self.assertEqual(shapes, {6})
        self.assertEqual(judged(fewer.to_bytes(), {"x": self.images}).shape, self.wanted.shape)
        sides = fewer.report["comparison"]
        self.assertLess(sides["after"]["parameters"], sides["before"]["parameters"])
        apus.prune(self.network, pattern="2:4")
        apus.prune(self.network, magnitude=0.3, all_layers=True, exclude=["last"])
        for options in ({}, {"magnitude": 0.5, "structured": 0.5}, {"magnitude": 1.0}, {"pattern": "4:2"}):
            with self.assertRaises(apus.InputError):
                apus.prune(self.network, self.folder / "no.onnx", **options)  # type: ignore[arg-type]
        self.assertFalse((self.folder / "no.onnx").exists())

    def test_cluster(self) -> None:
        made = apus.cluster(self.network, codebook=8)
        for proto in onnx.load_from_string(made.to_bytes()).graph.initializer:
            array = numpy_helper.to_array(proto)
            if array.ndim > 1:
                self.assertLessEqual(len(np.unique(array)), 8)
        self.assertLess(made.report["huffman_bytes"], made.report["bytes"] / 8)
        self.assertEqual(len(made.weights), 3)
        with self.assertRaisesRegex(apus.InputError, "codebook"):
            apus.cluster(self.network, codebook=1)


class Misuse(Case):
    def refused(self, kind: type[BaseException], words: str, **options: Any) -> BaseException:
        """The call fails so, and leaves nothing."""
        path = self.folder / "no.onnx"
        with self.assertRaisesRegex(kind, words) as caught:
            apus.quantize(options.pop("model", self.network), options.pop("output", path), **options)
        self.assertEqual([file.name for file in self.folder.iterdir() if file.name.startswith("no")], [])
        return caught.exception

    def test_samples(self) -> None:
        self.refused(apus.InputError, "no samples", calibrate=[])
        self.refused(apus.InputError, "no samples", calibrate=iter(()))
        self.refused(apus.InputError, "no samples", calibrate=np.zeros((0, 3, 8, 8), np.float32))
        self.refused(apus.InputError, "there is no input 'X'.*'x'", calibrate=[{"X": self.images[:1]}])
        self.refused(apus.InputError, "'X'.*x", calibrate={"X": self.images})
        other = np.zeros((1, 4, 8, 8), np.float32)
        self.refused(apus.InputError, "sample 2.*'x'.*4", calibrate=[self.images[:1], other])
        self.refused(apus.InputError, "shape.*x", calibrate=np.zeros((2, 4, 8, 8), np.float32))
        self.refused(apus.InputError, "'x'.*float64", calibrate=[self.images[:1].astype(float)])
        self.refused(apus.InputError, "(?i)nan|finite", calibrate=[np.full((1, 3, 8, 8), np.nan, np.float32)])
        self.refused(apus.InputError, "empty.*'x'", calibrate=[{}])
        self.refused(apus.InvalidArgument, "opset is that", calibrate=self.images[:2], opset=21, output=None)
        self.refused(apus.InputError, "sample 1 is ", calibrate=[None])
        self.refused(apus.InputError, "expected samples", calibrate=3)
        self.refused(apus.InputError, "npz", calibrate="nothing.png")
        self.refused(apus.NoSuchFile, "nothing.npz", calibrate="/nothing.npz")
        (self.folder / "bad.npz").write_bytes(b"no archive")
        self.refused(apus.InputError, "no .npz", calibrate=self.folder / "bad.npz")
        pair = [{"x": self.rows[:1]}]
        self.refused(apus.InputError, "'shift'", calibrate=pair, model=self.perceptron)
        unequal = {"x": self.rows, "shift": np.zeros((3, 128), np.float32)}
        self.refused(apus.InputError, "different numbers", calibrate=unequal, model=self.perceptron)

    def test_options(self) -> None:
        images = self.images
        self.refused(apus.InputError, "nothing says what")
        self.refused(apus.InputError, "range is 'most'; expected.*minmax", calibrate=images, range="most")
        self.refused(apus.InputError, "smooth is 2", calibrate=images, smooth=2)
        self.refused(apus.InputError, "activations is 'int3'", calibrate=images, activations="int3")
        self.refused(apus.InputError, "exclude each other", calibrate=images, static=True, dynamic=True)
        self.refused(apus.InputError, "'symmetric'.*of no use", dynamic=True, symmetric=True)
        self.refused(apus.InputError, "'block'.*of no use", calibrate=images, block=32)
        self.refused(apus.InputError, "like 'thrid'", calibrate=images, include="thrid")
        self.refused(apus.InputError, "'measure'|measure is", calibrate=images, measure=-1)
        self.refused(apus.InputError, "no value 'w'", calibrate=images, overrides={"w": {}})
        self.refused(apus.InputError, "overrides.x.*'lowest'", calibrate=images, overrides={"x": {"lowest": 1}})
        self.refused(apus.InputError, "overrides.x.*2.* to 1", calibrate=images, overrides={"x": {"low": 2, "high": 1}})
        self.refused(apus.InputError, "overrides.x.*'int3'", calibrate=images, overrides={"x": {"type": "int3"}})
        self.refused(apus.InputError, "no number", calibrate=images, percentile=float("nan"))
        self.refused(TypeError, "holds <object", calibrate=images, overrides={"x": {"low": object()}})
        self.refused(apus.InputError, "per_tensor", calibrate=images, per_tensor="yes")
        self.refused(apus.InputError, "gptq.*no samples", weights="int4", method="gptq")
        self.refused(apus.InputError, "block of 3", weights="int4", block=3)
        self.refused(apus.InputError, "given together", calibrate=images, target_accuracy=0.5)
        self.refused(apus.InputError, "given together", calibrate=images, evaluate=lambda session: 1.0)
        self.refused(apus.CompressionError, "the best was", calibrate=images, target_sqnr=900)
        self.refused(apus.CompressionError, ".", calibrate=images, exclude="*")
        self.refused(TypeError, "unexpected keyword", calibrate=images, blok=32)
        self.refused(TypeError, "the model is int", model=3, dynamic=True)

    def test_files(self) -> None:
        self.refused(apus.NoSuchFile, "nowhere.onnx", model="/nowhere.onnx", dynamic=True)
        self.refused(apus.InvalidProtobuf, ".", model=b"no model", dynamic=True)
        self.refused(apus.Error, "no folder", output=self.folder / "nothing/no.onnx", dynamic=True)
        self.refused(apus.Error, str(self.folder), output=self.folder, calibrate=self.images)
        (self.folder / "c.json").write_text("{}")
        self.refused(apus.InputError, "c.json is no calibration", calibration=self.folder / "c.json")
        if os.getuid() != 0:
            self.folder.chmod(0o500)
            self.refused(apus.Error, "no.onnx", calibrate=self.images)
            self.folder.chmod(0o700)
        made = apus.quantize(self.network, calibrate=self.images)
        with self.assertRaises(apus.NoSuchFile):
            made.html(self.folder / "nothing/r.html")
        with self.assertRaisesRegex(apus.InputError, "opset is 3"):
            made.save(self.folder / "no.onnx", opset=3)


class Interruptions(Case):
    def setUp(self) -> None:
        super().setUp()
        # A process in the background may have been started with interrupts ignored.
        former = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, former)

    def raised(self, error: BaseException, **options: Any) -> None:
        with self.assertRaises(type(error)) as caught:
            apus.quantize(self.network, self.folder / "no.onnx", **options)
        self.assertIs(caught.exception, error)
        self.assertFalse((self.folder / "no.onnx").exists())

    def test_exceptions_come_through(self) -> None:
        def failing(error: BaseException, after: int) -> Iterator[Any]:
            yield from self.samples()[:after]
            raise error

        def fail(error: BaseException) -> Callable[..., Any]:
            def function(*_: Any) -> Any:
                raise error

            return function

        for after in (0, 1, 5):
            for error in (ValueError("mine"), KeyboardInterrupt(), SystemExit(3), MemoryError()):
                self.raised(error, calibrate=failing(error, after))
        error = ZeroDivisionError()
        self.raised(error, calibrate=self.images, target_accuracy=0.5, evaluate=fail(error))
        self.raised(error, calibrate=self.images, progress=fail(error))
        self.raised(error, calibrate=fail(error))
        for answer in ("much", None, float("nan"), [1]):
            with self.assertRaisesRegex(apus.InputError, "evaluate returned"):
                apus.quantize(self.network, calibrate=self.images, target_accuracy=0.5, evaluate=lambda _, a=answer: a)

    def test_progress_ends_work_without_samples(self) -> None:
        stages: list[str] = []

        def end(stage: str, done: int, count: int | None) -> None:
            stages.append(stage)
            if len(stages) == 2:
                raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            apus.quantize(self.perceptron, weights="int4", progress=end)
        self.assertEqual(len(stages), 2)

    def test_progress_tells_how_much(self) -> None:
        calls: list[tuple[str, int, int | None]] = []
        apus.quantize(self.network, calibrate=self.samples(), progress=lambda *call: calls.append(call))
        wanted = [("calibration", number, 24) for number in range(24)]
        self.assertEqual([call for call in calls if call[0] == "calibration"], wanted)
        self.assertIn(("measuring", 0, None), calls)

    def test_keyboard(self) -> None:
        def endless() -> Iterator[Any]:
            while True:
                yield from self.samples()

        timer = threading.Timer(0.3, _thread.interrupt_main)
        timer.start()
        with self.assertRaises(KeyboardInterrupt):
            apus.quantize(self.network, self.folder / "no.onnx", calibrate=endless())
        self.assertEqual(list(self.folder.iterdir()), [])
        self.assertIs(signal.getsignal(signal.SIGINT), signal.default_int_handler)

    def test_keyboard_at_every_moment(self) -> None:
        for moment in range(12):
            with self.assertRaises(KeyboardInterrupt):
                # One that arrives in a finalizer is lost, since Python ignores exceptions there: another one follows.
                while True:
                    stop = threading.Timer(0.02 + moment / 100, _thread.interrupt_main)
                    stop.start()
                    while stop.is_alive():
                        apus.quantize(self.network, calibrate=self.samples())
        self.assertIs(signal.getsignal(signal.SIGINT), signal.default_int_handler)

    def test_nothing_is_left_behind(self) -> None:
        def samples() -> Iterator[Any]:
            yield from self.samples()
            raise ValueError

        def fail(*_: Any) -> None:
            raise ValueError

        cases: list[dict[str, Any]] = [
            {"calibrate": samples},
            {"weights": "int4", "progress": fail},
            {"calibrate": self.images, "target_accuracy": 0.5, "evaluate": fail},
            {"calibrate": self.images, "target_sqnr": 900},
        ]
        for options in cases:
            # Not by assertRaises, which clears the frames of the exception.
            try:
                apus.quantize(self.network, **options)
            except (ValueError, apus.CompressionError):
                continue
            self.fail("nothing was raised")
        gc.collect()
        self.assertEqual([item for item in gc.get_objects() if type(item).__name__ in ("Source", "Conversation")], [])


def run_in_child(model: bytes, images: np.ndarray, queue: Any) -> None:
    queue.put(apus.InferenceSession(model, threads=1).run(None, {"x": images})[0])


def quantize_in_child(model: bytes, images: np.ndarray, queue: Any) -> None:
    samples = ({"x": image[None]} for image in images)
    queue.put(apus.quantize(model, calibrate=samples, target_accuracy=0, evaluate=lambda session: 1).to_bytes())


class Processes(Case):
    def test_in_a_process_that_was_forked_and_in_another_thread(self) -> None:
        model = self.network.SerializeToString()
        wanted = apus.quantize(model, calibrate=self.samples()).to_bytes()
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=quantize_in_child, args=(model, self.images, queue))
        child.start()
        self.assertEqual(queue.get(timeout=60), wanted)
        child.join()
        found: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: found.append(apus.quantize(model, calibrate=self.samples()).to_bytes()))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, [wanted] * 3)

    def test_a_fork_between_samples_does_not_wait(self) -> None:
        context = multiprocessing.get_context("fork")
        took: list[float] = []

        def samples() -> Iterator[Any]:
            for number, sample in enumerate(self.samples()):
                if number == 3:
                    queue = context.Queue()
                    content = self.network.SerializeToString()
                    child = context.Process(target=run_in_child, args=(content, self.images, queue))
                    start = time.monotonic()
                    child.start()
                    took.append(time.monotonic() - start)
                    np.testing.assert_allclose(queue.get(timeout=60), self.wanted, rtol=1e-3, atol=1e-4)
                    child.join()
                yield sample

        self.close(apus.quantize(self.network, calibrate=samples()), 30)
        self.assertLess(took[0], 0.8)

    def test_a_plain_import_does_without(self) -> None:
        program = (
            f"import sys; sys.path.insert(0, {str(ROOT / 'tools/python')!r}); import apus; "
            f"apus.InferenceSession({str(MODELS / 'digits.onnx')!r}); "
            "assert not {'apus._compression', 'apus._samples'} & set(sys.modules); "
            "assert 'quantize' in dir(apus) and 'quantize' in apus.__all__; "
            "apus.quantize; assert 'apus._compression' in sys.modules"
        )
        subprocess.run([sys.executable, "-c", program], check=True)


if __name__ == "__main__":
    unittest.main()
