"""What must not change a result: the rows beside a row, where weights come from, passes, the engine's guests."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

sys.path[:0] = [str(Path(__file__).resolve().parent)]
from models_for_tests import ROOT, model_of, tensor  # noqa: E402

import apus  # noqa: E402

FLOAT = TensorProto.FLOAT
node = helper.make_node


def constant(name: str, value: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


class Rows(unittest.TestCase):
    """The bits of a row are those that it has alone."""

    def check(self, model: onnx.ModelProto, x: np.ndarray, axis: int = 0) -> None:
        for optimize in (True, False):
            session = apus.InferenceSession(model, optimize=optimize, threads=2)
            whole = session.run(None, {"x": x})[0]
            for first, last in [(0, 1), (x.shape[axis] - 1, x.shape[axis]), (1, 3)]:
                part = np.take(x, range(first, last), axis)
                alone = session.run(None, {"x": np.ascontiguousarray(part)})[0]
                wanted = np.take(whole, range(first, last), min(axis, whole.ndim - 1))
                self.assertEqual(alone.tobytes(), wanted.tobytes(), f"rows {first}..<{last} of {x.shape}")

    def test_reductions(self) -> None:
        random = np.random.default_rng(1)
        operators = ["Sum", "Mean", "L1", "L2", "SumSquare", "LogSum", "LogSumExp", "Prod", "Max", "Min"]
        for name in operators:
            for extents, axes in [
                ((3,), [1]),
                ((7,), [1]),
                ((16,), [1]),
                ((33,), [1]),
                ((4, 3), [1, 2]),
                ((9, 5), [1]),
                ((5, 1), [1]),
                ((3, 7, 4), [1, 3]),
            ]:
                model = model_of(
                    [node(f"Reduce{name}", ["x", "axes"], ["y"])],
                    {"x": tensor(FLOAT, None)},
                    ["y"],
                    initializer=[constant("axes", axes, np.int64)],
                )
                self.check(model, np.abs(random.standard_normal((9, *extents))).astype(np.float32) + 0.01)

    def test_long_reductions(self) -> None:
        random = np.random.default_rng(2)
        for extents, axes in [((200_000,), [1]), ((140_000, 3), [1])]:
            model = model_of(
                [node("ReduceSum", ["x", "axes"], ["y"])],
                {"x": tensor(FLOAT, None)},
                ["y"],
                initializer=[constant("axes", axes, np.int64)],
            )
            self.check(model, random.standard_normal((18, *extents)).astype(np.float32))

    def test_a_batch_between_reduced_axes(self) -> None:
        model = model_of(
            [node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
            {"x": tensor(FLOAT, None)},
            ["y"],
            initializer=[constant("axes", [0, 2], np.int64)],
        )
        random = np.random.default_rng(3)
        whole = random.standard_normal((5, 9, 7)).astype(np.float32)
        session = apus.InferenceSession(model)
        wanted = session.run(None, {"x": whole})[0]
        for row in range(9):
            alone = session.run(None, {"x": np.ascontiguousarray(whole[:, row : row + 1])})[0]
            self.assertEqual(alone.tobytes(), wanted[row : row + 1].tobytes())

    def test_einsum(self) -> None:
        random = np.random.default_rng(4)
        for length in (2, 3, 8, 33):
            model = model_of(
                [node("Einsum", ["x", "w"], ["y"], equation="nk,k->n")],
                {"x": tensor(FLOAT, None)},
                ["y"],
                initializer=[constant("w", random.standard_normal(length))],
            )
            self.check(model, random.standard_normal((9, length)).astype(np.float32))


def weighty_models() -> dict[str, tuple[onnx.ModelProto, dict[str, np.ndarray]]]:
    """Models whose weights are packed piece by piece: whole panels and rests, groups, scales, both orders of a
    matrix."""
    random = np.random.default_rng(5)
    models: dict[str, tuple[onnx.ModelProto, dict[str, np.ndarray]]] = {}

    def add(name: str, made: onnx.NodeProto, weights: list[onnx.TensorProto], x: tuple[int, ...]) -> None:
        models[name] = (
            model_of([made], {"x": tensor(FLOAT, None)}, list(made.output), initializer=weights),
            {"x": random.standard_normal(x).astype(np.float32)},
        )

    def w(*shape: int) -> onnx.TensorProto:
        return constant("w", random.standard_normal(shape) / np.sqrt(np.prod(shape[1:])))

    conv = node("Conv", ["x", "w"], ["y"])
    add("conv 1x1", conv, [w(97, 257, 1, 1)], (2, 257, 3, 3))
    add("conv 3x3", conv, [w(130, 67, 3, 3)], (1, 67, 5, 5))
    add("conv 7x7 on few channels", conv, [w(200, 3, 7, 7)], (1, 3, 9, 9))
    add("grouped conv", node("Conv", ["x", "w"], ["y"], group=3), [w(150, 60, 3, 3)], (1, 180, 4, 4))
    add("depthwise conv", node("Conv", ["x", "w"], ["y"], group=2100), [w(2100, 1, 3, 3)], (1, 2100, 4, 4))
    add("transposed conv", node("ConvTranspose", ["x", "w"], ["y"], group=2), [w(140, 35, 4, 4)], (1, 140, 3, 3))
    for k, n in [(700, 333), (33, 5000), (5000, 33), (1, 20_000)]:
        add(f"matmul {k} {n}", node("MatMul", ["x", "w"], ["y"]), [w(k, n)], (5, k))
        add(f"gemm {k} {n}", node("Gemm", ["x", "w"], ["y"], transB=1, alpha=0.5), [w(n, k)], (5, k))
    add("matmuls", node("MatMul", ["x", "w"], ["y"]), [w(3, 300, 150)], (3, 4, 300))
    add(
        "lstm",
        node("LSTM", ["x", "w", "r"], ["y"], hidden_size=80),
        [w(1, 320, 170), constant("r", random.standard_normal((1, 320, 80)) / 9)],
        (6, 2, 170),
    )
    # A scale for each channel, which goes into weights that still lie in the file.
    batch = [constant(name, random.random(67) + 0.5) for name in ("g", "b", "m", "v")]
    models["conv and normalization"] = (
        model_of(
            [node("Conv", ["x", "w"], ["c"]), node("BatchNormalization", ["c", "g", "b", "m", "v"], ["y"])],
            {"x": tensor(FLOAT, None)},
            ["y"],
            initializer=[w(67, 150, 3, 3), *batch],
        ),
        {"x": random.standard_normal((1, 150, 4, 4)).astype(np.float32)},
    )
    return models


class Sources(unittest.TestCase):
    def test_weights_of_files_and_of_memory_have_the_same_bits(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, (model, feeds) in weighty_models().items():
                with self.subTest(name):
                    path, beside = Path(folder) / "model.onnx", Path(folder) / "beside.onnx"
                    onnx.save(model, path)
                    wanted = apus.InferenceSession(model).run(None, feeds)[0]
                    for mapped in (False, True):
                        found = apus.InferenceSession(path, map_files=mapped).run(None, feeds)[0]
                        self.assertEqual(found.tobytes(), wanted.tobytes())
                    # What is saved so refers to the file afterwards.
                    onnx.save(
                        copy.deepcopy(model), beside, save_as_external_data=True, location="data", size_threshold=0
                    )
                    for mapped in (False, True):
                        found = apus.InferenceSession(beside, map_files=mapped).run(None, feeds)[0]
                        self.assertEqual(found.tobytes(), wanted.tobytes())
                    model.ir_version = 10
                    oracle = onnxruntime.InferenceSession(
                        model.SerializeToString(), providers=["CPUExecutionProvider"]
                    ).run(None, feeds)[0]
                    np.testing.assert_allclose(wanted, oracle, rtol=1e-4, atol=1e-4)
                    (Path(folder) / "data").unlink()

    def test_bytes_can_be_overridden(self) -> None:
        model = model_of(
            [node("Mul", ["x", "w"], ["y"])],
            {"x": tensor(FLOAT, ["n"]), "w": tensor(FLOAT, [1])},
            ["y"],
            initializer=[constant("w", [2])],
        )
        session = apus.InferenceSession(model.SerializeToString())
        self.assertEqual([arg.name for arg in session.get_overridable_initializers()], ["w"])
        x = np.ones(2, np.float32)
        np.testing.assert_array_equal(session.run(None, {"x": x, "w": np.float32([5])})[0], [5, 5])
        np.testing.assert_array_equal(session.run(None, {"x": x})[0], [2, 2])


class Passes(unittest.TestCase):
    def both(self, model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[list[np.ndarray]]:
        return [apus.InferenceSession(model, optimize=optimize).run(None, feeds) for optimize in (True, False)]

    def test_a_branch_that_never_runs_may_be_wrong(self) -> None:
        squeeze = helper.make_graph(
            [node("Squeeze", ["s", "one"], ["t"])], "then", [], [helper.make_value_info("t", tensor(FLOAT))]
        )
        keep = helper.make_graph(
            [node("Identity", ["s"], ["e"])], "else", [], [helper.make_value_info("e", tensor(FLOAT))]
        )
        model = model_of(
            [
                # Known to a pass that computes the cast, not to the inference of shapes.
                node("Cast", ["size"], ["n"], to=TensorProto.INT64),
                node("ConstantOfShape", ["n"], ["s0"]),
                node("Identity", ["s0"], ["s"]),
                node("If", ["c"], ["y"], then_branch=squeeze, else_branch=keep),
            ],
            {"c": tensor(TensorProto.BOOL, [])},
            ["y"],
            initializer=[constant("size", [2, 4, 3]), constant("one", [1], np.int64)],
        )
        plain = apus.InferenceSession(model, optimize=False)
        for session in (plain, apus.InferenceSession(model)):
            self.assertEqual(session.run(None, {"c": np.array(False)})[0].shape, (2, 4, 3))
            with self.assertRaisesRegex(apus.Error, "only 1 can be squeezed"):
                session.run(None, {"c": np.array(True)})

    def test_loops_without_an_iteration(self) -> None:
        body = helper.make_graph(
            [node("Unique", ["w"], ["u"], axis=0), node("Identity", ["cond"], ["go"])],
            "body",
            [
                helper.make_value_info("i", tensor(TensorProto.INT64, [])),
                helper.make_value_info("cond", tensor(TensorProto.BOOL, [])),
            ],
            [
                helper.make_value_info("go", tensor(TensorProto.BOOL, [])),
                helper.make_value_info("u", tensor(FLOAT, None)),
            ],
            initializer=[constant("w", [3, 1, 3])],
        )
        model = model_of([node("Loop", ["n", ""], ["y"], body=body)], {"n": tensor(TensorProto.INT64, [])}, ["y"])
        for trips in (0, 2):
            optimized, plain = self.both(model, {"n": np.int64(trips)})
            self.assertEqual(optimized[0].shape, plain[0].shape)
            np.testing.assert_array_equal(optimized[0], plain[0])


class Names(unittest.TestCase):
    def test_what_onnxruntime_has_and_apus_has_not(self) -> None:
        session = apus.InferenceSession(ROOT / "TestModels/digits.onnx")
        for owner, name in ((apus, "SparseTensor"), (apus, "OrtMemoryInfo"), (session, "run_with_ortvaluevector")):
            self.assertFalse(hasattr(owner, name))
            with self.assertRaisesRegex(apus.NotImplemented, name):
                getattr(owner, name)
        for owner in (apus, session):
            with self.assertRaises(AttributeError) as raised:
                getattr(owner, "no_such_name")
            self.assertNotIsInstance(raised.exception, apus.Error)

    def test_a_binding_without_outputs(self) -> None:
        session = apus.InferenceSession(ROOT / "TestModels/digits.onnx")
        with self.assertRaisesRegex(apus.InvalidArgument, "no output is bound"):
            session.run_with_iobinding(session.io_binding())


class Guests(unittest.TestCase):
    def test_signal_handlers_are_the_hosts(self) -> None:
        code = """
import re, sys
caught = lambda: int(re.search(r"SigCgt:\\s+(\\w+)", open("/proc/self/status").read()).group(1), 16)
import numpy
before = caught()
import apus
apus.InferenceSession(sys.argv[1])
print([number + 1 for number in range(64) if (caught() & ~before) >> number & 1])
"""
        environment = {key: value for key, value in os.environ.items() if key != "SWIFT_BACKTRACE"}
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT / "TestModels/digits.onnx")],
            capture_output=True,
            text=True,
            env=environment | {"PYTHONPATH": str(ROOT / "tools/python")},
            check=True,
        )
        self.assertEqual(re.sub(r"\s", "", done.stdout), "[]")


class Weights(unittest.TestCase):
    """What several sessions on the same weights take."""

    #: A table that is read as it lies, and a matrix that is packed: 32 MB together.
    PROGRAM = """
import sys
import numpy as np
import apus

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

sizes, sessions = [resident()], []
for _ in range(4):
    sessions.append(apus.InferenceSession(sys.argv[1], threads=1))
    sizes.append(resident())
feed = {"i": np.arange(5)}
results = {session.run(None, feed)[0].tobytes() for session in sessions}
print(len(results), sizes[1] - sizes[0], sizes[-1] - sizes[1])
"""

    def test_are_in_memory_once(self) -> None:
        random = np.random.default_rng(3)
        model = model_of(
            [node("Gather", ["table", "i"], ["rows"]), node("MatMul", ["rows", "matrix"], ["y"])],
            {"i": tensor(TensorProto.INT64, ["n"])},
            ["y"],
            initializer=[
                constant("table", random.standard_normal((4096, 1024))),
                constant("matrix", random.standard_normal((1024, 4096))),
            ],
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, path)
            done = subprocess.run(
                [sys.executable, "-c", self.PROGRAM, path],
                env=os.environ | {"PYTHONPATH": str(ROOT / "tools/python")},
                capture_output=True,
                text=True,
                check=True,
            )
        results, first, others = (int(word) for word in done.stdout.split())
        self.assertEqual(results, 1)
        self.assertGreater(first, 32 << 20)
        self.assertLess(others, first / 4, "three more sessions on the same file")


if __name__ == "__main__":
    unittest.main()
