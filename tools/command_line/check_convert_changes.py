"""What `apus convert` changes on request: weights and header, inputs and outputs, numbers; and what it verifies."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from PIL import Image

from . import program
from .program import Case, constant, model, tensor


MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def run(path, feeds: dict) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)


def network(batch: int | str = 1, size: int = 8) -> onnx.ModelProto:
    """A convolution over pictures, and scores of five classes."""
    numbers = np.random.default_rng(3)
    weight = numbers.standard_normal((4, 3, 3, 3)).astype(np.float32)
    dense = numbers.standard_normal((4, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["features"], name="relu"),
        helper.make_node("GlobalAveragePool", ["features"], ["p"], name="pool"),
        helper.make_node("Reshape", ["p", "shape"], ["f"], name="flat"),
        helper.make_node("MatMul", ["f", "d"], ["y"], name="dense"),
    ]
    first = batch if isinstance(batch, int) else -1
    made = model(
        nodes,
        [tensor("x", [batch, 3, size, size])],
        [tensor("y", [batch, 5]), tensor("features", [batch, 4, size, size])],
        [constant("w", weight), constant("d", dense), constant("shape", np.int64([first, 4]))],
    )
    return made


class Weights(Case):
    def large(self) -> onnx.ModelProto:
        """Weights of every way to store them, two of them the same, one inside an If."""
        numbers = np.random.default_rng(1)
        first = numbers.standard_normal((64, 64)).astype(np.float32)
        typed = helper.make_tensor("typed", TensorProto.FLOAT, [64, 64], first.ravel() * 2)
        codes = helper.make_tensor("codes", TensorProto.INT8, [64, 64], list(range(-64, 64)) * 32)
        inner = helper.make_graph(
            [helper.make_node("MatMul", ["a", "inside"], ["o"])],
            "then",
            [],
            [tensor("o")],
            [constant("inside", first * 3)],
        )
        outer = helper.make_graph([helper.make_node("Identity", ["a"], ["o"])], "else", [], [tensor("o")])
        nodes = [
            helper.make_node("MatMul", ["x", "first"], ["a0"]),
            helper.make_node("MatMul", ["a0", "again"], ["a1"]),
            helper.make_node("MatMul", ["a1", "typed"], ["a2"]),
            helper.make_node("Cast", ["codes"], ["c"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["a2", "c"], ["a"]),
            helper.make_node("If", ["is"], ["y"], then_branch=inner, else_branch=outer),
        ]
        weights = [constant("first", first), constant("again", first), typed, codes]
        made = model(nodes, [tensor("x", [2, 64]), tensor("is", [], TensorProto.BOOL)], [tensor("y")], weights)
        made.graph.doc_string = "kept"
        return made

    def setUp(self) -> None:
        super().setUp()
        self.made = self.large()
        self.save(self.made)
        self.feeds = {"x": np.random.default_rng(2).standard_normal((2, 64)).astype(np.float32), "is": np.array(True)}
        self.expected = run(self.path("model.onnx"), self.feeds)[0]

    def same(self, name: str) -> None:
        np.testing.assert_array_equal(run(self.path(name), self.feeds)[0], self.expected)

    def test_weights_go_to_a_file_beside_the_model_and_back(self) -> None:
        report = self.json("convert", "model.onnx", "-o", "split.onnx", "--external-data", "w.bin")
        self.assertEqual(report["side_bytes"], self.path("w.bin").stat().st_size)
        self.assertEqual(report["file_bytes"], self.path("split.onnx").stat().st_size)
        self.same("split.onnx")
        split = onnx.load(self.path("split.onnx"), load_external_data=False)
        self.assertEqual(split.graph.doc_string, "kept")
        places = {w.name: {e.key: e.value for e in w.external_data} for w in split.graph.initializer}
        self.assertEqual(places["first"], places["again"])
        self.assertTrue(all(int(place["offset"]) % 4096 == 0 for place in places.values()))
        inner = next(a for a in split.graph.node[-1].attribute if a.name == "then_branch").g.initializer[0]
        self.assertEqual(inner.data_location, TensorProto.EXTERNAL)
        # Four of the five: one stands twice.
        self.assertLess(report["side_bytes"], 4 * 64 * 64 * 4 + 4096)
        self.json("convert", "split.onnx", "-o", "whole.onnx", "--embed-data")
        self.same("whole.onnx")
        whole = onnx.load(self.path("whole.onnx")).graph.initializer[0]
        self.assertFalse(onnx.external_data_helper.uses_external_data(whole))
        self.assertEqual(self.leftovers(), [])

    def test_alignment_and_threshold(self) -> None:
        self.json(
            "convert", "model.onnx", "-o", "a.onnx", "--external-data", "a.bin", "--external-align", 64,
            "--external-threshold", 5000,
        )  # fmt: skip
        made = onnx.load(self.path("a.onnx"), load_external_data=False)
        places = {w.name: {e.key: e.value for e in w.external_data} for w in made.graph.initializer}
        self.assertEqual(places["codes"], {})
        offsets = [int(place["offset"]) for place in places.values() if place]
        self.assertTrue(all(offset % 64 == 0 for offset in offsets))
        self.assertLess(self.path("a.bin").stat().st_size, 3 * 64 * 64 * 4 + 4096)
        self.same("a.onnx")
        self.json("convert", "a.onnx", "-o", "b.onnx", "--external-data", "b.bin")
        self.same("b.onnx")
        both = ["--embed-data", "--external-data", "b"]
        for options in (["--external-data", "sub/b.bin"], ["--external-align", 64], both):
            self.apus("convert", "a.onnx", "-o", "c.onnx", *options, status=2)
        # Neither the model nor what it is read from is written over.
        self.apus("convert", "a.onnx", "-o", "c.onnx", "--external-data", "c.onnx", status=1)
        self.apus("convert", "a.onnx", "-o", "c.onnx", "--external-data", "a.bin", status=1)
        self.same("a.onnx")

    def test_another_folder_gets_the_weights_too(self) -> None:
        self.json("convert", "model.onnx", "-o", "split.onnx", "--external-data", "w.bin")
        self.path("other").mkdir()
        report = self.json("convert", "split.onnx", "-o", "other/b.onnx")
        self.assertEqual(report["side_file"], "other/b.onnx.data")
        self.same("other/b.onnx")
        # An operator set is written with the weights inside, or where somebody says.
        self.json("convert", "split.onnx", "-o", "other/c.onnx", "--opset", 19, "--external-data", "c.bin")
        self.same("other/c.onnx")

    def test_memory_stays_below_the_file(self) -> None:
        weight = np.zeros((64, 1 << 20), np.float32)
        weight[:, :100] = 1
        self.save(model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor("x", [1, 64])], [tensor("y")],
                        [constant("w", weight)]))  # fmt: skip
        for options in (["--external-data", "w.bin"], ["--metadata", "a=1"]):
            command = [program.APUS, "convert", "model.onnx", "-o", "b.onnx", *options, "--json"]
            # A process of its own measures: what this one took would count for its children.
            measure = [sys.executable, "-c", MEASURE, *command]
            peak = int(subprocess.run(measure, cwd=self.folder, check=True, stdout=subprocess.PIPE).stdout)
            self.assertLess(peak * 1024, weight.nbytes // 2)

    def test_the_header_changes_and_nothing_else(self) -> None:
        self.made.metadata_props.add(key="a", value="1")
        self.made.metadata_props.add(key="b", value="2")
        self.save(self.made)
        self.json(
            "convert", "model.onnx", "-o", "b.onnx", "--metadata", "a=x=y", "--metadata", "c=3", "--drop-metadata", "b",
            "--doc", "about", "--model-version", 7, "--ir-version", 9,
        )  # fmt: skip
        made = onnx.load(self.path("b.onnx"))
        self.assertEqual({e.key: e.value for e in made.metadata_props}, {"a": "x=y", "c": "3"})
        self.assertEqual((made.doc_string, made.model_version, made.ir_version), ("about", 7, 9))
        self.assertEqual(made.graph, self.made.graph)
        # The same where the graph is written anew.
        self.json("convert", "model.onnx", "-o", "c.onnx", "--opset", 21, "--metadata", "c=3", "--drop-metadata", "b")
        self.assertEqual({e.key: e.value for e in onnx.load(self.path("c.onnx")).metadata_props}, {"a": "1", "c": "3"})
        for options in ([], ["--opset", 21]):
            done = self.apus("convert", "model.onnx", "-o", "d.onnx", "--drop-metadata", "nope", *options, status=1)
            self.assertIn("'nope'. There are 'a', 'b'", done.stderr.decode())


class Interface(Case):
    def setUp(self) -> None:
        super().setUp()
        self.save(network())
        self.x = np.random.default_rng(5).standard_normal((1, 3, 8, 8)).astype(np.float32)
        self.scores, self.features = run(self.path("model.onnx"), {"x": self.x})

    def test_pictures_come_channels_last(self) -> None:
        self.json("convert", "model.onnx", "-o", "b.onnx", "--nhwc-inputs", "--nhwc-outputs")
        scores, features = run(self.path("b.onnx"), {"x": self.x.transpose(0, 2, 3, 1)})
        np.testing.assert_allclose(scores, self.scores, atol=1e-5)
        np.testing.assert_allclose(features.transpose(0, 3, 1, 2), self.features, atol=1e-5)
        # And back, where nothing is left of it.
        self.json("convert", "b.onnx", "-o", "c.onnx", "--nchw-inputs", "--nchw-outputs")
        made = onnx.load(self.path("c.onnx"))
        self.assertNotIn("Transpose", [node.op_type for node in made.graph.node])
        np.testing.assert_allclose(run(self.path("c.onnx"), {"x": self.x})[1], self.features, atol=1e-5)
        self.json("convert", "model.onnx", "-o", "d.onnx", "--layout", "features=nhwc")
        self.assertEqual(run(self.path("d.onnx"), {"x": self.x})[1].shape, (1, 8, 8, 4))
        for options in (["--layout", "nobody=nhwc"], ["--layout", "y=nhwc"]):
            self.apus("convert", "model.onnx", "-o", "e.onnx", *options, status=1)
        self.apus("convert", "model.onnx", "-o", "e.onnx", "--layout", "x=abc", status=2)
        self.assertFalse(self.path("e.onnx").exists())

    def test_operators_tell_the_order_where_extents_do_not(self) -> None:
        # A last extent of 1 is no channel here: the convolution reads 16 channels behind the batch.
        ends = [tensor("x", [1, 16, 10, 1])], [tensor("y", [1, 2, 10, 1])]
        weight = constant("w", np.ones((2, 16, 1, 1), np.float32))
        onnx.save(model([helper.make_node("Conv", ["x", "w"], ["y"])], *ends, [weight]), self.path("sound.onnx"))
        x = np.random.default_rng(8).random((1, 16, 10, 1), np.float32)
        (expected,) = run(self.path("sound.onnx"), {"x": x})
        self.json("convert", "sound.onnx", "-o", "b.onnx", "--nhwc-inputs", "--nhwc-outputs")
        (found,) = run(self.path("b.onnx"), {"x": x.transpose(0, 2, 3, 1)})
        np.testing.assert_allclose(found.transpose(0, 3, 1, 2), expected, atol=1e-5)
        self.json("convert", "sound.onnx", "-o", "c.onnx", "--nchw-inputs", "--nchw-outputs")
        np.testing.assert_allclose(run(self.path("c.onnx"), {"x": x})[0], expected, atol=1e-5)

    def test_pictures_come_as_bytes_like_those_of_apus_run(self) -> None:
        pixels = np.random.default_rng(6).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(self.path("picture.png"))
        numbers = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
        self.apus("run", "model.onnx", "--image", "x=picture.png", *numbers, "-o", "y=y.npy")
        expected = np.load(self.path("y.npy"))
        self.json("convert", "model.onnx", "-o", "b.onnx", "--uint8-inputs", "--nhwc-inputs", *numbers)
        np.testing.assert_allclose(run(self.path("b.onnx"), {"x": pixels[None]})[0], expected, atol=1e-5)
        self.json("convert", "model.onnx", "-o", "c.onnx", "--scale", 2, "--mean", 0.5)
        np.testing.assert_allclose(
            run(self.path("c.onnx"), {"x": self.x})[0],
            run(self.path("model.onnx"), {"x": self.x * 2 - 0.5})[0],
            atol=1e-5,
        )
        self.apus("convert", "model.onnx", "-o", "d.onnx", "--mean", "1,2", status=1)
        self.apus("convert", "model.onnx", "-o", "d.onnx", "--mean", "1,2", "--picture", "z", status=1)
        self.apus("convert", "model.onnx", "-o", "d.onnx", "--std", "0", status=2)

    def test_pictures_come_in_any_size(self) -> None:
        self.json("convert", "model.onnx", "-o", "b.onnx", "--resize-inputs", "--uint8-inputs", "--nhwc-inputs")
        flat = np.full((1, 21, 13, 3), 51, np.uint8)
        expected = run(self.path("model.onnx"), {"x": np.full((1, 3, 8, 8), 0.2, np.float32)})[0]
        np.testing.assert_allclose(run(self.path("b.onnx"), {"x": flat})[0], expected, atol=1e-5)
        # As Pillow does it, borders included; one channel at a time, since it has no pictures of three floats.
        self.json("convert", "model.onnx", "-o", "c.onnx", "--resize-inputs")
        picture = np.random.default_rng(7).random((1, 3, 21, 13), np.float32)
        channels = [Image.fromarray(channel).resize((8, 8), Image.Resampling.BILINEAR) for channel in picture[0]]
        expected = run(self.path("model.onnx"), {"x": np.stack([np.asarray(c) for c in channels])[None]})[0]
        np.testing.assert_allclose(run(self.path("c.onnx"), {"x": picture})[0], expected, atol=1e-5)

    def test_scores_become_probabilities_and_the_largest(self) -> None:
        self.json("convert", "model.onnx", "-o", "b.onnx", "--softmax", "--top-k", 2)
        values, indices, features = run(self.path("b.onnx"), {"x": self.x})
        all_ = np.exp(self.scores) / np.exp(self.scores).sum()
        np.testing.assert_array_equal(indices, np.argsort(-all_)[:, :2])
        np.testing.assert_allclose(values, -np.sort(-all_)[:, :2], atol=1e-6)
        np.testing.assert_allclose(features, self.features, atol=1e-5)
        names = [value.name for value in onnx.load(self.path("b.onnx")).graph.output]
        self.assertEqual(names, ["y", "y_indices", "features"])
        for options in (["--top-k", 6], ["--softmax", "--scores", "nobody"]):
            self.apus("convert", "model.onnx", "-o", "c.onnx", *options, status=1)

    def test_batches_become_open_and_extents_get_names(self) -> None:
        self.json("convert", "model.onnx", "-o", "b.onnx", "--shape", "x=Nx3x8x8")
        x = np.concatenate([self.x, -self.x, 2 * self.x])
        scores, features = run(self.path("b.onnx"), {"x": x})
        np.testing.assert_allclose(scores[:1], self.scores, atol=1e-5)
        self.assertEqual(features.shape, (3, 4, 8, 8))
        self.assertEqual(onnx.load(self.path("b.onnx")).graph.output[0].type.tensor_type.shape.dim[0].dim_param, "N")
        self.json("convert", "b.onnx", "-o", "c.onnx", "--dim", "N=batch")
        made = onnx.load(self.path("c.onnx"))
        for value in (made.graph.input[0], made.graph.output[0]):
            self.assertEqual(value.type.tensor_type.shape.dim[0].dim_param, "batch")
        self.json("convert", "c.onnx", "-o", "d.onnx", "--dim", "batch=1")
        np.testing.assert_allclose(run(self.path("d.onnx"), {"x": self.x})[0], self.scores, atol=1e-5)
        self.apus("convert", "c.onnx", "-o", "e.onnx", "--dim", "nobody=batch", status=1)
        # A Reshape to a number that never was the batch stays.
        fold = model(
            [helper.make_node("Reshape", ["x", "shape"], ["y"])],
            [tensor("x", ["N", 4])],
            [tensor("y", [2, "M"])],
            [constant("shape", np.int64([2, -1]))],
        )
        self.save(fold, "fold.onnx")
        self.json("convert", "fold.onnx", "-o", "g.onnx", "--dim", "N=batch")
        self.assertEqual(run(self.path("g.onnx"), {"x": np.zeros((6, 4), np.float32)})[0].shape, (2, 12))
        self.apus("convert", "c.onnx", "-o", "e.onnx", "--shape", "x=Nx3", status=1)
        # What holds to its batch is found by a run: one row of three, and an axis that is taken away.
        self.json("convert", "model.onnx", "-o", "h.onnx", "--shape", "x=Nx3x8x8", "--verify", "random")
        bounds = [constant("start", np.int64([0])), constant("end", np.int64([1]))]
        first = model(
            [helper.make_node("Slice", ["x", "start", "end"], ["y"])],
            [tensor("x", [1, 4])],
            [tensor("y", [1, 4])],
            bounds,
        )
        flat = model(
            [helper.make_node("Squeeze", ["x", "start"], ["y"])], [tensor("x", [1, 4])], [tensor("y", [4])], bounds[:1]
        )
        for name, kept in (("first", first), ("flat", flat)):
            self.save(kept, f"{name}.onnx")
            self.json("convert", f"{name}.onnx", "-o", "h.onnx", "--verify", "random")
            words = ["convert", f"{name}.onnx", "-o", f"{name}-open.onnx", "--shape", "x=Nx4", "--verify", "random"]
            self.assertIn("holds to its batch", self.apus(*words, status=1).stderr.decode())
            self.assertFalse(self.path(f"{name}-open.onnx").exists())
        fixed = self.apus("convert", "model.onnx", "-o", "e.onnx", "--shape", "x=4x3x8x8", status=1).stderr.decode()
        self.assertIn("--shape x=Nx3x8x8", fixed)

    def test_a_name_that_is_not_there_is_told_alone(self) -> None:
        for options in (["--picture", "nope", "--mean", "0"], ["--top-k", "3", "--scores", "nope"]):
            message = self.apus("convert", "model.onnx", "-o", "e.onnx", *options, status=1).stderr.decode()
            self.assertNotIn(": :", message)
            self.assertIn("nope", message)


class Numbers(Case):
    def test_floats_of_16_bits(self) -> None:
        self.save(network("n"))
        x = np.random.default_rng(7).standard_normal((2, 3, 8, 8)).astype(np.float32)
        expected = run(self.path("model.onnx"), {"x": x})[0]
        half = ["model.onnx", "-o", "b.onnx", "--float16", "--keep", "dense", "--verify", "random"]
        report = self.json("convert", *half)
        self.assertEqual([kept["node"] for kept in report["halves"]["kept"]], ["dense"])
        self.assertEqual({d["output"] for d in report["differences"]}, {"y", "features"})
        made = onnx.load(self.path("b.onnx"))
        self.assertIn(TensorProto.FLOAT16, [weight.data_type for weight in made.graph.initializer])
        np.testing.assert_allclose(run(self.path("b.onnx"), {"x": x})[0], expected, atol=0.02)
        # The inputs of what is written are floats of 16 bits too.
        self.json("convert", "model.onnx", "-o", "d.onnx", "--float16", "--keep-io", "false", "--verify", "random")
        self.assertEqual(onnx.load(self.path("d.onnx")).graph.input[0].type.tensor_type.elem_type, TensorProto.FLOAT16)
        exact = ["--float16", "--verify", "random", "--tolerance", 0]
        self.apus("convert", "model.onnx", "-o", "c.onnx", *exact, status=1)
        self.assertFalse(self.path("c.onnx").exists())
        self.apus("convert", "model.onnx", "-o", "c.onnx", "--keep", "dense", status=2)

    def test_given_inputs_and_outputs(self) -> None:
        self.save(network())
        x = np.random.default_rng(8).standard_normal((1, 3, 8, 8)).astype(np.float32)
        scores = run(self.path("model.onnx"), {"x": x})[0]
        np.savez(self.path("io.npz"), x=x, y=scores)
        np.savez(self.path("wrong.npz"), x=x, y=scores + 1)
        np.savez(self.path("other.npz"), x=x, z=scores)
        report = self.json("convert", "model.onnx", "-o", "b.onnx", "--opset", 17, "--verify", "io.npz")
        self.assertEqual([d["output"] for d in report["differences"]], ["y", "features", "y (given)"])
        self.assertLess(report["differences"][2]["relative_error"], 1e-5)
        self.json("convert", "model.onnx", "-o", "c.textproto", "--verify", "io.npz", "--verify", "random")
        done = self.apus("convert", "model.onnx", "-o", "d.onnx", "--opset", 17, "--verify", "wrong.npz", status=1)
        self.assertIn(b"output 'y (given)'", done.stderr)
        self.assertFalse(self.path("d.onnx").exists())
        self.apus("convert", "model.onnx", "-o", "d.onnx", "--verify", "other.npz", status=1)
        self.apus("convert", "model.onnx", "-o", "d.onnx", "--verify", "none.npz", status=1)
        self.apus("convert", "model.onnx", "-o", "d.onnx", "--tolerance", 1, status=2)


class OtherFrameworks(Case):
    def test_tensorflow_lite_is_written_and_read_back(self) -> None:
        self.save(network("n"))
        x = np.random.default_rng(9).standard_normal((2, 3, 8, 8)).astype(np.float32)
        scores, features = run(self.path("model.onnx"), {"x": x})
        report = self.json("convert", "model.onnx", "-o", "a.tflite", "--verify", "random")
        self.assertEqual((report["to"], report["written"]["CONV_2D"]), ("tflite", 1))
        self.assertTrue(all(d["relative_error"] < 1e-5 for d in report["differences"]))
        self.json("convert", "a.tflite", "-o", "back.onnx")
        found = run(self.path("back.onnx"), {"x": x})
        np.testing.assert_allclose(found[0], scores, atol=1e-5)
        np.testing.assert_allclose(found[1], features, atol=1e-5)
        half = ["--to", "tflite", "--float16", "--nhwc-inputs", "--verify", "random"]
        self.json("convert", "model.onnx", "-o", "b", *half)
        self.assertIn(", 8, 8, 3]", self.json("info", "b")["inputs"][0]["type"])

    def test_weights_that_are_still_in_the_file(self) -> None:
        weight = np.random.default_rng(10).standard_normal((256, 512)).astype(np.float32)
        made = model(
            [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Mul", ["h", "one"], ["y"])],
            [tensor("x", [1, 256])],
            [tensor("y", [1, 512])],
            [constant("w", weight), constant("one", np.full((512,), 2, np.float32))],
        )
        self.save(made)
        for name in ("a.tflite", "a.onnx", "a.json"):
            options = ["--opset", 17] if name == "a.onnx" else []
            self.json("convert", "model.onnx", "-o", name, "--verify", "random", *options)

    def test_what_it_cannot_say_is_told_at_once(self) -> None:
        nodes = [
            helper.make_node("Det", ["x"], ["a"], name="determinant"),
            helper.make_node("StringNormalizer", ["s"], ["t"], name="normalizer"),
        ]
        ends = [tensor("x", [2, 2]), tensor("s", [2], TensorProto.STRING)]
        self.save(model(nodes, ends, [tensor("a", []), tensor("t", [2], TensorProto.STRING)]))
        done = self.apus("convert", "model.onnx", "-o", "a.tflite", status=1)
        self.assertIn(b"'determinant'", done.stderr)
        self.assertIn(b"'normalizer'", done.stderr)
        for options in (["--opset", 17], ["--metadata", "a=b"], ["--bfloat16"], ["--external-data", "w"]):
            self.save(network())
            self.apus("convert", "model.onnx", "-o", "a.tflite", *options, status=1)
        self.assertFalse(self.path("a.tflite").exists())
