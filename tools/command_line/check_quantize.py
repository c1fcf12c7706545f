"""Models on integers, with weights of few bits, and in 16 bits, read back by other means than those that wrote them."""

from __future__ import annotations

import subprocess

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from . import program
from .program import Case, constant, model, tensor


def product(weights: np.ndarray) -> onnx.ModelProto:
    k, n = weights.shape
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        [tensor("x", ["rows", k])],
        [tensor("y", ["rows", n])],
        [constant("w", weights)],
    )


def decoded(made: onnx.ModelProto) -> np.ndarray:
    """The matrix [K, N] of the only MatMulNBits of a model."""
    (node,) = (node for node in made.graph.node if node.op_type == "MatMulNBits")
    values = {entry.name: numpy_helper.to_array(entry) for entry in made.graph.initializer}
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    bits, block, k, n = (attributes[name] for name in ("bits", "block_size", "K", "N"))

    def unpacked(packed: np.ndarray) -> np.ndarray:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        return (packed[..., None] >> shifts & (1 << bits) - 1).reshape(n, -1).astype(np.float64)

    codes = unpacked(values[node.input[1]].reshape(n, -1)).reshape(n, -1, block)
    scales = values[node.input[2]].reshape(n, -1, 1).astype(np.float64)
    zeros = np.full_like(scales, 1 << bits - 1)
    if len(node.input) > 3 and node.input[3]:
        zeros = unpacked(values[node.input[3]])[:, : scales.shape[1], None]
    return ((codes - zeros) * scales).reshape(n, -1)[:, :k].T


def decibels(signal: np.ndarray, rest: np.ndarray) -> float:
    return 10 * np.log10((signal**2).sum() / (rest**2).sum())


class FewBits(Case):
    def setUp(self) -> None:
        super().setUp()
        draw = np.random.default_rng(5)
        self.weights = draw.standard_normal((90, 40)).astype(np.float32)
        mixing = draw.standard_normal((90, 90)) * np.linspace(0.1, 3, 90)
        self.samples = (draw.standard_normal((64, 1, 90)) @ mixing).astype(np.float32)
        np.savez(self.path("samples.npz"), x=self.samples.reshape(64, 90))
        self.save(product(self.weights))

    def test_codes_say_what_the_report_says(self) -> None:
        for bits in (2, 4, 8):
            for method in ("rtn", "hqq", "gptq"):
                report = self.json(
                    *("quantize", "model.onnx", "few.onnx", "--weights", f"int{bits}", "--method", method),
                    *("--calibrate", "samples.npz", "--block", 32),
                )
                (entry,) = report["weights"]
                found = decoded(onnx.load(self.path("few.onnx")))
                rest = self.weights - found
                self.assertAlmostEqual(entry["signal_to_noise"], decibels(self.weights, rest), delta=0.01)
                rows = self.samples.reshape(-1, 90).astype(np.float64)
                expected = decibels(rows @ self.weights, rows @ rest)
                self.assertAlmostEqual(entry["output_signal_to_noise"], expected, delta=0.05)

    def test_compensation_pays(self) -> None:
        outputs = {}
        for method in ("rtn", "gptq"):
            report = self.json(
                *("quantize", "model.onnx", "few.onnx", "--weights", "int4", "--method", method),
                *("--calibrate", "samples.npz"),
            )
            outputs[method] = report["weights"][0]["output_signal_to_noise"]
        self.assertGreater(outputs["gptq"], outputs["rtn"] + 3)

    def test_standard_form_is_evaluated_by_others(self) -> None:
        self.apus("quantize", "model.onnx", "few.onnx", "--weights", "int4", "--weight-format", "qdq", "--block", 32)
        made = onnx.load(self.path("few.onnx"))
        onnx.checker.check_model(made)
        self.assertGreaterEqual(made.opset_import[0].version, 21)
        self.assertEqual([node.op_type for node in made.graph.node], ["DequantizeLinear", "MatMul"])
        np.save(self.path("x.npy"), self.samples[0])
        self.apus("run", "few.onnx", "-i", "x=x.npy", "--output", "y=y.npy")
        expected = self.samples[0] @ self.weights
        self.assertGreater(decibels(expected, np.load(self.path("y.npy")) - expected), 15)

    def test_halves_replace_their_source(self) -> None:
        expected = self.samples[0] @ self.weights
        for flag, least in (("--float16", 60), ("--bfloat16", 40)):
            self.save(product(self.weights))
            report = self.json("quantize", "model.onnx", "model.onnx", flag)
            self.assertEqual((report["converted"], report["casts"]), (1, 2))
            self.assertEqual(report["bytes_after"] * 2, report["bytes_before"])
            made = onnx.load(self.path("model.onnx"))
            onnx.checker.check_model(made)
            found = ReferenceEvaluator(made).run(None, {"x": self.samples[0]})[0]
            self.assertGreater(decibels(expected, found - expected), least)

    def test_what_cannot_be(self) -> None:
        few = ("quantize", "model.onnx", "few.onnx")
        self.apus(*few, status=2)
        self.apus(*few, "--weights", "int4", "--float16", status=2)
        self.apus(*few, "--weights", "int3", status=2)
        self.apus(*few, "--weights", "int4", "--block", 24, status=2)
        self.apus(*few, "--weights", "int4", "--method", "gptq", status=2)
        self.apus(*few, "--weights", "int4", "--damping", "nan", status=2)
        self.apus(*few, "--weights", "int4", "--exclude", "product", status=1)
        for option in ("--include", "--exclude"):
            for kind in (["--weights", "int4"], ["--float16"], ["--bfloat16"]):
                done = self.apus(*few, *kind, option, "porduct", status=1)
                self.assertIn(b"porduct", done.stderr)
        self.apus(*few, "--float16", "--keep", "MatNul", status=1)
        self.apus(*few, "--weights", "int4", "--weight-type", "Gathre=int8", status=1)
        self.apus(*few, "--weights", "int4", "--adaround", "--calibrate", "samples.npz", status=2)
        gptq = ("--weights", "int4", "--method", "gptq", "--calibrate", "samples.npz")
        self.assertIn(b"--memory", self.apus(*few, *gptq, "--memory", "20K", status=1).stderr)
        self.apus(*few, "--weights", "int4", "--calibrate", "missing.npz", status=1)
        np.savez(self.path("wrong.npz"), x=np.zeros((3, 89), np.float32))
        self.apus(*few, "--weights", "int4", "--calibrate", "wrong.npz", status=1)
        np.savez(self.path("nan.npz"), x=np.full((3, 90), np.nan, np.float32))
        self.apus(*few, "--weights", "int4", "--calibrate", "nan.npz", status=1)
        np.savez(self.path("none.npz"), x=np.zeros((0, 90), np.float32))
        self.apus(*few, "--weights", "int4", "--calibrate", "none.npz", status=1)
        self.weights[3, 4] = np.inf
        self.save(product(self.weights))
        self.apus(*few, "--weights", "int4", status=1)
        self.assertFalse(self.path("few.onnx").exists())


def network(draw: np.random.Generator) -> onnx.ModelProto:
    """Two convolutions with a sum around the second, a pool and a product."""
    floats = lambda *shape: draw.standard_normal(shape).astype(np.float32) * 0.3
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c1", "r0"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["y"], name="last"),
    ]
    weights = {
        "w0": floats(8, 3, 3, 3),
        "b0": floats(8),
        "w1": floats(8, 8, 3, 3),
        "w2": floats(8, 5),
        "b2": floats(5),
    }
    return model(
        nodes,
        [tensor("x", ["n", 3, 10, 10])],
        [tensor("y", ["n", 5])],
        [constant(name, value) for name, value in weights.items()],
    )


class Integers(Case):
    def setUp(self) -> None:
        super().setUp()
        draw = np.random.default_rng(6)
        self.model = network(draw)
        self.save(self.model)
        self.samples = draw.standard_normal((12, 3, 10, 10)).astype(np.float32)
        np.savez(self.path("samples.npz"), x=self.samples)

    def outputs(self, name: str) -> np.ndarray:
        np.save(self.path("x.npy"), self.samples)
        self.apus("run", name, "-i", "x=x.npy", "--output", "y=y.npy")
        return np.load(self.path("y.npy"))

    def test_integers_are_evaluated_by_others(self) -> None:
        expected = ReferenceEvaluator(self.model).run(None, {"x": self.samples})[0]
        for options in ([], ["--range", "mse"], ["--format", "qoperator"], ["--target", "neon"], ["--correct-bias"]):
            report = self.json("quantize", "model.onnx", "q.onnx", "--calibrate", "samples.npz", *options)
            self.assertEqual([row["name"] for row in report["nodes"]], ["first", "second", "last"])
            self.assertEqual((report["kept"], report["calibration_samples"]), ([], 12))
            made = onnx.load(self.path("q.onnx"))
            onnx.checker.check_model(made)
            found = self.outputs("q.onnx")
            self.assertGreater(decibels(expected, found - expected), 25)
            judged = ReferenceEvaluator(made).run(None, {"x": self.samples})[0]
            # One step of the last activation at most.
            self.assertLess(np.abs(found - judged).max(), 0.02 * np.abs(expected).max())

    def test_samples_one_by_one_or_from_a_stored_calibration(self) -> None:
        command = ("quantize", "model.onnx", "q.onnx", "--range", "percentile")
        self.apus(*command, "--calibrate", "samples.npz", "--save-calibration", "c.json")
        first = self.path("q.onnx").read_bytes()
        self.apus(*command, "--calibration", "c.json")
        self.assertEqual(self.path("q.onnx").read_bytes(), first)
        for number, sample in enumerate(self.samples):
            np.save(self.path(f"s{number}.npy"), sample[None])
        self.apus(*command, "--calibrate", *(f"s{number}.npy" for number in range(12)))
        self.assertEqual(self.path("q.onnx").read_bytes(), first)

    def test_types_that_came_later_raise_the_operator_set(self) -> None:
        self.model.opset_import[0].version = 19
        self.save(self.model)
        command = ("quantize", "model.onnx", "q.onnx", "--static", "--calibrate", "samples.npz")
        for options, opset in ((["--weights", "int4"], 21), (["--activations", "uint16"], 21), ([], 19)):
            self.apus(*command, *options)
            made = onnx.load(self.path("q.onnx"))
            self.assertEqual([entry.version for entry in made.opset_import if entry.domain == ""], [opset])
            onnx.checker.check_model(made, full_check=True)

    def test_adaptive_rounding(self) -> None:
        """The report's figures are those of the weights in the file, on the samples that judge."""
        command = ("quantize", "model.onnx", "q.onnx", "--static", "--weights", "int4", "--calibrate", "samples.npz")
        report = self.json(*command, "--adaround")
        self.assertTrue(all(row["rounding"] for row in report["nodes"]))
        self.assertTrue(any(row["rounding"]["is_kept"] for row in report["nodes"]))
        made, judged = onnx.load(self.path("q.onnx")), self.samples[1::4]
        onnx.checker.check_model(made, full_check=True)
        # The float model with the weights of the first convolution as the integers say.
        values = {entry.name: numpy_helper.to_array(entry) for entry in made.graph.initializer}
        first = next(node for node in made.graph.node if node.name == "first")
        (dequantize,) = (node for node in made.graph.node if node.output[0] == first.input[1])
        scales = values[dequantize.input[1]].reshape(-1, 1, 1, 1)
        weights = values[dequantize.input[0]].astype(np.float32) * scales
        source = self.model.graph
        convolution = helper.make_model(
            helper.make_graph([source.node[0]], "first", source.input, [tensor("c0", None)], source.initializer),
            opset_imports=self.model.opset_import,
        )
        evaluator = ReferenceEvaluator(convolution)
        other = onnx.ModelProto.FromString(convolution.SerializeToString())
        for entry in other.graph.initializer:
            if entry.name == "w0":
                entry.CopyFrom(numpy_helper.from_array(weights, "w0"))
        bias = numpy_helper.to_array(next(entry for entry in source.initializer if entry.name == "b0"))
        expected = evaluator.run(None, {"x": judged})[0]
        noise = expected - ReferenceEvaluator(other).run(None, {"x": judged})[0]
        outcome = report["nodes"][0]["rounding"]
        self.assertAlmostEqual(
            max(outcome["adaptive_sqnr"], outcome["nearest_sqnr"]),
            decibels(expected - bias[:, None, None], noise), delta=0.05,
        )
        self.assertEqual(self.json(*command)["nodes"][0].get("rounding"), None)
        self.assertIn(b"rounded adaptively", self.apus(*command, "--adaround").stdout)
        self.apus(*command, "--adaround", "--limit", 1, status=1)
        self.apus("quantize", "model.onnx", "no.onnx", "--dynamic", "--adaround", status=2)

    def test_a_target_keeps_nodes_in_float(self) -> None:
        report = self.json(
            *("quantize", "model.onnx", "q.onnx", "--static", "--weights", "int4", "--calibrate", "samples.npz"),
            *("--target-sqnr", "24", "--html", "r.html", "--tensorrt-cache", "t.cache"),
        )
        self.assertTrue(report["kept"] and report["trade_offs"] and report["ranking"])
        self.assertGreaterEqual(report["trade_offs"][-1]["quality"], 24)
        page = self.path("r.html").read_text()
        self.assertIn("<svg", page)
        self.assertNotIn("http", page)
        lines = self.path("t.cache").read_text().splitlines()
        self.assertTrue(lines[0].startswith("TRT-"))
        self.assertRegex(lines[1], r"^.+: [0-9a-f]{8}$")

    def test_a_target_of_accuracy_is_met_on_labelled_samples(self) -> None:
        labels = ReferenceEvaluator(self.model).run(None, {"x": self.samples})[0].argmax(axis=1)
        np.savez(self.path("labelled.npz"), x=self.samples, label=labels)
        command = ("quantize", "model.onnx", "q.onnx", "--static", "--weights", "int4", "--calibrate", "samples.npz")
        report = self.json(*command, "--target-accuracy", "0.9", "--data", "labelled.npz")
        self.assertGreaterEqual(report["trade_offs"][-1]["quality"], 0.9)
        self.assertGreaterEqual((self.outputs("q.onnx").argmax(axis=1) == labels).mean(), 0.9)
        self.apus(*command, "--target-accuracy", "1.5", "--data", "labelled.npz", status=1)
        self.apus(*command, "--target-accuracy", "0.9", status=1)

    def test_overrides_in_json_and_in_yaml(self) -> None:
        command = ("quantize", "model.onnx", "q.onnx", "--calibrate", "samples.npz", "--overrides")
        self.write("o.json", '{"x": {"low": -4, "high": 4.5, "type": "int8"}, "y": {"float": true}}')
        self.write("o.yaml", "# a comment\nx:\n  low: -4\n  high: 4.5\n  type: int8\n'y': {float: yes}\n")
        self.apus(*command, "o.json")
        wanted = self.path("q.onnx").read_bytes()
        self.apus(*command, "o.yaml")
        self.assertEqual(self.path("q.onnx").read_bytes(), wanted)
        self.path("q.onnx").unlink()
        deep = "[" * 100_000
        texts = ["x: {low: 2, high: 1}", "x: {lowest: 1}", "x: [", "- x", "x: {low: .nan}", deep, "- " * 30_000, ""]
        for text in texts:
            self.write("bad.yml", text)
            said = self.apus(*command, "bad.yml", status=1).stderr.decode()
            self.assertIn("bad.yml", said)
        self.assertFalse(self.path("q.onnx").exists())

    def test_dynamic(self) -> None:
        report = self.json("quantize", "model.onnx", "q.onnx", "--dynamic", "--calibrate", "samples.npz")
        self.assertEqual([row["name"] for row in report["nodes"]], ["last"])
        self.assertEqual(len(report["kept"]), 2)
        made = onnx.load(self.path("q.onnx"))
        self.assertIn("MatMulInteger", [node.op_type for node in made.graph.node])

    def test_outputs_that_are_one_value_keep_their_names(self) -> None:
        made = product(np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32))
        made.graph.node.append(helper.make_node("Identity", ["y"], ["z"]))
        made.graph.output.insert(0, tensor("z", ["rows", 64]))
        self.save(made, "two.onnx")
        np.savez(self.path("rows.npz"), x=np.random.default_rng(2).standard_normal((4, 64)).astype(np.float32))
        static = ["--calibrate", "rows.npz"]
        ways = [static, [*static, "--format", "qoperator"], ["--dynamic"], ["--weights", "int4"], ["--float16"]]
        for way in ways:
            self.apus("quantize", "two.onnx", "q.onnx", *way)
            self.assertEqual([info.name for info in onnx.load(self.path("q.onnx")).graph.output], ["z", "y"], way)

    def test_young_types_are_in_files_of_young_operator_sets(self) -> None:
        self.model.opset_import[0].version = 13
        self.save(self.model, "old.onnx")
        static = ("quantize", "old.onnx", "q.onnx", "--static", "--calibrate", "samples.npz")
        ways = ([], 13), (["--activations", "uint16"], 21), (["--weights", "int4"], 21)
        for options, opset in ways:
            self.apus(*static, *options)
            made = onnx.load(self.path("q.onnx"))
            self.assertEqual(made.opset_import[0].version, opset, options)
            onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])

    def test_integers_that_may_be_large_stay_in_float(self) -> None:
        """Sums of bytes are beyond float16 long before what they are multiplied with makes them small."""
        rows = np.abs(np.random.default_rng(4).standard_normal((4, 512))).astype(np.float32)
        self.save(product(np.abs(np.random.default_rng(3).standard_normal((512, 64))).astype(np.float32)), "rows.onnx")
        self.apus("quantize", "rows.onnx", "dynamic.onnx", "--dynamic")
        report = self.json("quantize", "dynamic.onnx", "q.onnx", "--float16")
        self.assertIn("beyond the range of float16", " ".join(row["reason"] for row in report["kept"]))
        np.save(self.path("x.npy"), rows)
        results = []
        for name in ("dynamic.onnx", "q.onnx"):
            self.apus("run", name, "-i", "x=x.npy", "--output", "y=y.npy")
            results.append(np.load(self.path("y.npy")).astype(np.float64))
        self.assertGreater(decibels(results[0], results[1] - results[0]), 50)

    def test_scales_of_products_of_integers_stay_float(self) -> None:
        static = ["--calibrate", "samples.npz", "--format", "qoperator"]
        self.apus("quantize", "model.onnx", "operators.onnx", *static)
        self.apus("quantize", "operators.onnx", "q.onnx", "--float16")
        made = onnx.load(self.path("q.onnx"))
        onnx.checker.check_model(made, full_check=True)
        onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])

    def test_scales_by_channel_are_in_files_of_operator_set_13(self) -> None:
        self.save(product(np.random.default_rng(3).standard_normal((64, 64)).astype(np.float32)), "rows.onnx")
        made = onnx.load(self.path("rows.onnx"))
        made.opset_import[0].version = 11
        onnx.save(made, self.path("rows.onnx"))
        np.savez(self.path("rows.npz"), x=np.random.default_rng(4).standard_normal((4, 64)).astype(np.float32))
        for options, opset in (([], 13), (["--per-tensor"], 11)):
            self.apus("quantize", "rows.onnx", "q.onnx", "--calibrate", "rows.npz", *options)
            self.assertEqual(onnx.load(self.path("q.onnx")).opset_import[0].version, opset)
            onnx.checker.check_model(str(self.path("q.onnx")), full_check=True)

    def test_tables_that_are_read_two_ways_are_stored_once(self) -> None:
        table = np.random.default_rng(5).standard_normal((300, 64)).astype(np.float32)
        nodes = [
            helper.make_node("Gather", ["table", "ids"], ["rows"], name="table"),
            helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", ["rows", "turned"], ["y"], name="head"),
        ]
        inputs = [tensor("ids", ["n"], onnx.TensorProto.INT64)]
        self.save(model(nodes, inputs, [tensor("y", ["n", 300])], [constant("table", table)]), "tied.onnx")
        before = self.path("tied.onnx").stat().st_size
        report = self.json("prune", "tied.onnx", "-o", "q.onnx", "--magnitude", 0.3, "--seconds", 0)["pruning"]
        self.assertEqual(report["parameters_before"], table.size)
        self.assertLess(self.path("q.onnx").stat().st_size, before + 1000)

    def refused(self, *arguments: object, text: str) -> None:
        """The program says so, and there is no file."""
        done = self.apus("quantize", *arguments, status=1)
        self.assertIn(text, done.stderr.decode())
        self.assertFalse(self.path("q.onnx").exists())
        self.assertEqual(self.leftovers(), [])

    def test_values_without_a_range_stay_float(self) -> None:
        np.savez(self.path("zero.npz"), x=np.zeros((3, 3, 10, 10), np.float32))
        for method in ("minmax", "average", "entropy", "percentile", "mse"):
            report = self.json("quantize", "model.onnx", "q.onnx", "--calibrate", "zero.npz", "--range", method)
            self.assertNotIn("first", [row["name"] for row in report["nodes"]])
            self.assertIn("was 0 in all samples", report["kept"][0]["reason"])
        self.path("q.onnx").unlink()
        weights = np.ones((64, 64), np.float32)
        self.save(product(weights), "rows.onnx")
        np.savez(self.path("rows.npz"), x=np.zeros((3, 64), np.float32))
        self.refused("rows.onnx", "q.onnx", "--calibrate", "rows.npz", text="was 0 in all samples")
        weights[2, 3] = np.inf
        self.save(product(weights), "infinite.onnx")
        np.savez(self.path("ones.npz"), x=np.ones((3, 64), np.float32))
        for way in (["--calibrate", "ones.npz"], ["--dynamic"], ["--weights", "int8"]):
            self.refused("infinite.onnx", "q.onnx", *way, text="finite")

    def test_models_with_nothing_to_quantize(self) -> None:
        half = product(np.ones((64, 64), np.float16))
        for info in (*half.graph.input, *half.graph.output):
            info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        self.save(half, "half.onnx")
        np.savez(self.path("half.npz"), x=np.ones((3, 64), np.float16))
        self.save(model([], [tensor("x", [1, 64])], [tensor("x", [1, 64])]), "empty.onnx")
        np.savez(self.path("empty.npz"), x=np.ones((3, 64), np.float32))
        for name in ("half", "empty"):
            self.refused(f"{name}.onnx", "q.onnx", "--calibrate", f"{name}.npz", text="no node can be computed")
            self.refused(f"{name}.onnx", "q.onnx", "--dynamic", text="no node can be computed")
        self.refused("half.onnx", "q.onnx", "--weights", "int4", text="its elements are float16")
        self.refused("half.onnx", "q.onnx", "--float16", text="no node of the model can compute in float16")
        self.refused("empty.onnx", "q.onnx", "--weights", "int4", text="no weight of the model")
        self.refused("empty.onnx", "q.onnx", "--float16", text="no node of the model")
        # Quantized dynamically, there is nothing left for integers.
        self.save(product(np.ones((64, 64), np.float32)), "rows.onnx")
        self.apus("quantize", "rows.onnx", "done.onnx", "--dynamic")
        self.refused("done.onnx", "q.onnx", "--dynamic", text="no node can be computed")

    def test_branches_are_quantized_too(self) -> None:
        branch = product(np.eye(64, dtype=np.float32)).graph
        del branch.input[:]
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        inputs = [tensor("x", ["rows", 64]), tensor("c", [], onnx.TensorProto.BOOL)]
        self.save(model([node], inputs, [tensor("y", ["rows", 64])]), "if.onnx")
        np.savez(self.path("if.npz"), x=np.ones((3, 1, 64), np.float32), c=np.ones(3, bool))
        for way in (["--calibrate", "if.npz"], ["--dynamic"]):
            report = self.json("quantize", "if.onnx", "q.onnx", *way)
            self.assertEqual(len(report["nodes"]), 2)
            self.assertLess(report["bytes_after"], report["bytes_before"] / 3)

    def test_folders_that_take_no_file(self) -> None:
        ways = ["--calibrate", "samples.npz"], ["--dynamic"], ["--float16"]
        for way in ways:
            self.refused("model.onnx", "missing/q.onnx", *way, text="missing/q.onnx")
        fill = "head -c 64k /dev/zero > full/fill"
        for mount, before, reason in (("size=64k", fill, "No space left"), ("ro", "true", "Read-only")):
            self.path("full").mkdir(exist_ok=True)
            for way in ways:
                script = f"mount -t tmpfs -o {mount} none full && {before}; "
                script += f"{program.APUS} quantize model.onnx full/q.onnx {' '.join(way)} > /dev/null; "
                script += "status=$?; ls -A full; exit $status"
                done = subprocess.run(["unshare", "-m", "sh", "-c", script], cwd=self.folder, capture_output=True)
                if b"unshare" in done.stderr or b"mount:" in done.stderr:
                    self.skipTest("nothing can be mounted here")
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(reason, done.stderr.decode())
                self.assertEqual(done.stdout.decode().split(), ["fill"] if before == fill else [])

    def test_the_source_may_be_replaced(self) -> None:
        before = self.path("model.onnx").read_bytes()
        self.apus("quantize", "model.onnx", "model.onnx", "--calibrate", "samples.npz", "--exclude", "*", status=1)
        self.assertEqual(self.path("model.onnx").read_bytes(), before)
        self.apus("quantize", "model.onnx", "model.onnx", "--calibrate", "samples.npz")
        made = onnx.load(self.path("model.onnx"))
        self.assertIn("QuantizeLinear", [node.op_type for node in made.graph.node])

    def test_what_cannot_be(self) -> None:
        few = ("quantize", "model.onnx", "q.onnx")
        self.apus(*few, "--static", status=2)
        self.apus(*few, "--dynamic", "--symmetric", status=2)
        static = ("--calibrate", "samples.npz")
        self.apus("quantize", "model.onnx", "-", *static, status=2)
        for unused in (
            ["--percentile", 99],
            ["--target", "tensorrt", "--asymmetric-weights"],
            ["--smooth", 0.5, "--save-calibration", "c.json"],
            ["--metric", "top1"],
            ["--data", "samples.npz"],
        ):
            self.apus(*few, *static, *unused, status=2)
        self.apus(*few, "--dynamic", "--static", "--calibrate", "samples.npz", status=2)
        self.apus(*few, "--calibrate", "samples.npz", "--range", "most", status=2)
        self.apus(*few, "--calibrate", "samples.npz", "--smooth", "2", status=2)
        self.apus(*few, "--calibrate", "samples.npz", "--include", "thrid", status=1)
        self.apus(*few, "--calibrate", "samples.npz", "--exclude", "*", status=1)
        self.apus(*few, "--calibrate", "samples.npz", "--target-sqnr", "900", status=1)
        self.write("o.json", '{"c1": {"low": 2, "high": 1}}')
        self.apus(*few, "--calibrate", "samples.npz", "--overrides", "o.json", status=1)
        self.write("c.json", "{}")
        self.apus(*few, "--calibration", "c.json", status=1)
        np.savez(self.path("nan.npz"), x=np.full((2, 3, 10, 10), np.nan, np.float32))
        self.assertIn("NaN", self.apus(*few, "--calibrate", "nan.npz", status=1).stderr.decode())
        np.savez(self.path("wrong.npz"), x=np.zeros((2, 4, 10, 10), np.float32))
        self.apus(*few, "--calibrate", "wrong.npz", status=1)
        np.savez(self.path("none.npz"), x=np.zeros((0, 3, 10, 10), np.float32))
        self.apus(*few, "--calibrate", "none.npz", status=1)
        self.assertFalse(self.path("q.onnx").exists())
