"""Models in other formats: `apus convert`, and textual models in the place of binary ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from google.protobuf import json_format, text_format
from onnx import TensorProto, helper

from .program import Case, constant, identity, model, tensor

ROOT = Path(__file__).resolve().parent.parent.parent


def sample() -> onnx.ModelProto:
    made = model(
        [helper.make_node("Add", ["x", "w"], ["y"], name="first node", doc_string="adds")],
        [tensor("x", ["N", 3])],
        [tensor("y", ["N", 3])],
        [constant("w", np.float32([0.1, -0.0, np.inf]))],
        {"key": 'a "quoted" word\n'},
    )
    made.graph.doc_string = "ü"
    return made


class Formats(Case):
    def test_every_form_is_told_from_its_bytes_and_its_name(self) -> None:
        made = sample()
        self.save(made)
        for name in ("a.textproto", "a.pbtxt", "a.prototxt", "a.json", "a.onnxjson"):
            report = self.json("convert", "model.onnx", "-o", name)
            self.assertEqual((report["from"], report["left_out"]), ("onnx", []))
            text = self.path(name).read_text()
            read = json_format.Parse if "json" in name else text_format.Parse
            self.assertEqual(read(text, onnx.ModelProto()), made)
            # The name does not matter for reading.
            self.path(name).rename(self.path("any"))
            report = self.json("convert", "any", "-o", "back.onnx")
            self.assertEqual(report["from"], "json" if "json" in name else "textproto")
            self.assertEqual(onnx.load(self.path("back.onnx")), made)

    def test_own_text_says_what_it_leaves_out(self) -> None:
        self.save(sample())
        report = self.json("convert", "model.onnx", "-o", "a.onnxtxt")
        self.assertEqual(report["left_out"], ["GraphProto.doc_string (1)", "NodeProto.doc_string (1)"])
        read = onnx.parser.parse_model(self.path("a.onnxtxt").read_text())
        np.testing.assert_array_equal(
            onnx.numpy_helper.to_array(read.graph.initializer[0]), np.float32([0.1, -0.0, np.inf])
        )
        done = self.apus("convert", "model.onnx", "-o", "a.onnxtxt")
        self.assertIn(b"has no place for GraphProto.doc_string (1)", done.stderr)

    def test_texts_run_as_they_are(self) -> None:
        self.save(sample())
        self.array("x.npy", np.float32([[1, 2, 3]]))
        for name in ("a.textproto", "a.json", "a.onnxtxt"):
            self.apus("convert", "model.onnx", "-o", name)
            self.apus("run", name, "--input", "x=x.npy", "-o", "y.npy")
            np.testing.assert_array_equal(np.load(self.path("y.npy")), np.float32([[1.1, 2, np.inf]]))
            self.assertEqual(self.json("info", name)["inputs"][0]["name"], "x")
            self.apus("check", name)

    def test_pipes(self) -> None:
        made = sample()
        done = self.apus("convert", "-", "-o", "-", "--to", "textproto", input=made.SerializeToString())
        self.assertEqual(text_format.Parse(done.stdout, onnx.ModelProto()), made)

    def test_faults_leave_no_file(self) -> None:
        self.save(sample())
        self.write("broken.textproto", "ir_version: 8\ngraph {\n  nodes { }\n}\n")
        done = self.apus("convert", "broken.textproto", "-o", "a.onnx", status=1)
        self.assertIn(b"broken.textproto: line 3, column 3: a field of GraphProto was expected", done.stderr)
        broken = model([helper.make_node("Nothing", ["x"], ["y"])], [tensor("x")], [tensor("y")])
        self.save(broken, "unknown.onnx")
        self.apus("convert", "unknown.onnx", "-o", "a.json", status=1)
        self.assertFalse(self.path("a.json").exists() or self.path("a.onnx").exists())
        self.apus("convert", "unknown.onnx", "-o", "a.json", "--unchecked")
        self.apus("convert", "model.onnx", "-o", "a.unknown", status=2)
        done = self.apus("convert", "model.onnx", "-o", "b.json", "--from", "json", status=1)
        self.assertIn(b"ONNX as protobuf JSON was expected", done.stderr)
        self.assertEqual(self.leftovers(), [])

    def test_side_files_stay_beside_their_model(self) -> None:
        made = model(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            [tensor("x", [4096])],
            [tensor("y", [4096])],
            [constant("w", np.arange(4096, dtype=np.float32))],
        )
        onnx.save(made, self.path("model.onnx"), save_as_external_data=True, location="w.data", size_threshold=0)
        self.path("other").mkdir()
        done = self.apus("convert", "model.onnx", "-o", "other/a.textproto", status=1)
        self.assertIn(b"w.data", done.stderr)
        self.apus("convert", "model.onnx", "-o", "a.onnxtxt")
        self.apus("run", "a.onnxtxt", "--random", "-o", "y.npy")

    def test_bits_of_every_type(self) -> None:
        types = TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.BOOL, TensorProto.DOUBLE
        for type_ in types:
            made = identity(type_, [3])
            raw = {TensorProto.DOUBLE: 24, TensorProto.INT4: 2, TensorProto.BOOL: 3}.get(type_, 6)
            weight = helper.make_tensor("w", type_, [3], bytes([1, 0] * 12)[:raw], raw=True)
            made.graph.initializer.append(weight)
            self.save(made)
            for name in ("a.textproto", "a.json", "a.onnxtxt"):
                self.apus("convert", "model.onnx", "-o", name)
                self.apus("convert", name, "-o", "back.onnx")
                back = onnx.load(self.path("back.onnx")).graph.initializer[0]
                np.testing.assert_array_equal(onnx.numpy_helper.to_array(back), onnx.numpy_helper.to_array(weight))


class OperatorSets(Case):
    def setUp(self) -> None:
        super().setUp()
        nodes = [
            helper.make_node("Gelu", ["x"], ["g"], name="activation"),
            helper.make_node("ReduceMean", ["g", "axes"], ["y"], name="mean", keepdims=0),
        ]
        self.save(
            model(nodes, [tensor("x", ["n", 4])], [tensor("y", ["n"])], [constant("axes", np.int64([1]))]),
        )
        self.x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
        self.array("x.npy", self.x)

    def outputs(self, name: str, given: str = "x", wanted: str = "y") -> np.ndarray:
        self.apus("run", name, "--input", f"{given}=x.npy", "-o", f"{wanted}=y.npy")
        return np.load(self.path("y.npy"))

    def test_young_operators_are_written_as_older_ones(self) -> None:
        expected = self.outputs("model.onnx")
        for opset, kinds in ((20, {"Gelu", "ReduceMean"}), (13, {"Mul", "Erf", "Add", "ReduceMean"})):
            report = self.json("convert", "model.onnx", "-o", "older.onnx", "--opset", opset)
            self.assertEqual(report["opset"], opset)
            made = onnx.load(self.path("older.onnx"))
            onnx.checker.check_model(made, full_check=True)
            self.assertEqual(made.opset_import[0].version, opset)
            self.assertEqual({node.op_type for node in made.graph.node}, kinds)
            np.testing.assert_allclose(self.outputs("older.onnx"), expected, atol=1e-6)
        made = onnx.load(self.path("older.onnx"))
        axes = [list(a.ints) for a in made.graph.node[-1].attribute if a.name == "axes"]
        self.assertEqual(axes, [[1]])

    def test_what_an_older_set_cannot_say_is_refused(self) -> None:
        ends = [tensor(name, [2], TensorProto.INT32) for name in "xy"]
        self.save(model([helper.make_node("BitwiseNot", ["x"], ["y"], name="mask")], ends[:1], ends[1:]))
        done = self.apus("convert", "model.onnx", "-o", "older.onnx", "--opset", 13, status=1)
        self.assertIn(b"BitwiseNot 'mask'", done.stderr)
        self.assertFalse(self.path("older.onnx").exists())
        self.apus("convert", "model.onnx", "-o", "older.onnx", "--opset", 6, status=2)
        self.apus("convert", "model.onnx", "-o", "older.onnx", "--from", "tflit", status=2)

    def test_ends_get_other_names_and_dimensions_numbers(self) -> None:
        expected = self.outputs("model.onnx")
        self.apus("convert", "model.onnx", "-o", "b.onnx", "--rename", "x=image", "--rename", "y=score", "--dim", "n=3")
        made = onnx.load(self.path("b.onnx"))
        self.assertEqual([made.graph.input[0].name, made.graph.output[0].name], ["image", "score"])
        self.assertEqual(made.graph.input[0].type.tensor_type.shape.dim[0].dim_value, 3)
        np.testing.assert_allclose(self.outputs("b.onnx", "image", "score"), expected, atol=1e-6)
        for names in ("nobody=a", "x=y"):
            self.apus("convert", "model.onnx", "-o", "c.onnx", "--rename", names, status=1)
        self.apus("convert", "model.onnx", "-o", "c.onnx", "--rename", "x=", status=2)


class Frameworks(Case):
    def test_models_of_other_frameworks_become_onnx(self) -> None:
        fixtures = ROOT / "Tests/ApusFormatsTests/Fixtures"
        program = sorted((fixtures / "Torch").glob("*.pt2"))[0]
        for path, name in ((fixtures / "TFLite/cnn_float.tflite", "tflite"), (program, "pt2")):
            report = self.json("convert", path, "-o", "made.onnx", "--opset", 20)
            self.assertEqual((report["from"], report["opset"]), (name, 20))
            self.assertTrue(report["operators"])
            made = onnx.load(self.path("made.onnx"))
            onnx.checker.check_model(made, full_check=True)
            self.assertEqual(self.json("info", path)["inputs"][0]["name"], made.graph.input[0].name)

    def test_formats_are_listed(self) -> None:
        formats = {row["name"]: row for row in self.json("formats")["formats"]}
        self.assertTrue({"onnx", "textproto", "json", "onnxtxt", "tflite", "keras", "pt2"} <= set(formats))
        self.assertIn("CONV_2D", formats["tflite"]["operators"])
        self.assertIn(b"CONV_2D", self.apus("formats", "tflite").stdout)
        self.apus("formats", "tflit", status=2)
