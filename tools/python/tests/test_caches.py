"""Results in boxes that go into the next run: caches that grow in place, and what a look at them in between does."""

from __future__ import annotations

import os
import sys
import threading
import unittest
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]
from models_for_tests import model_of, tensor  # noqa: E402
from state_time import decoder  # noqa: E402

import apus  # noqa: E402

LAYERS, HEADS, SIZE = 2, 3, 16


def box(array: np.ndarray) -> apus.OrtValue:
    return apus.OrtValue.ortvalue_from_numpy(array)


class Caches(unittest.TestCase):
    def setUp(self) -> None:
        self.session = apus.InferenceSession(decoder(LAYERS, HEADS, SIZE), threads=1)
        self.names = [info.name for info in self.session.get_outputs()]
        self.random = np.random.default_rng(1)
        self.empty = {
            info.name: np.zeros((1, HEADS, 0, SIZE), np.float32)
            for info in self.session.get_inputs()
            if info.name.startswith("past")
        }

    def tokens(self, count: int) -> np.ndarray:
        return self.random.standard_normal((1, count, HEADS * SIZE)).astype(np.float32)

    def past(self, results: list) -> dict:
        by_name = dict(zip(self.names, results, strict=True))
        return {name: by_name[name.replace("past", "present")] for name in self.empty}

    def test_boxes_and_arrays_agree(self) -> None:
        arrays, boxes = dict(self.empty), {name: box(array) for name, array in self.empty.items()}
        for step in range(60):
            x = self.tokens(50 if step == 0 else 1)
            expected = self.session.run(None, {"x": x, **arrays})
            results = self.session.run_with_ort_values(None, {"x": box(x), **boxes})
            arrays, boxes = self.past(expected), self.past(results)
            np.testing.assert_array_equal(results[0].numpy(), expected[0])
            if step % 13 == 5:
                for name, value in boxes.items():
                    self.assertEqual(value.shape(), list(arrays[name].shape))
                    np.testing.assert_array_equal(value.numpy(), arrays[name])
                    self.assertTrue(value.numpy().flags.writeable)
        for name, value in boxes.items():
            np.testing.assert_array_equal(value.numpy(), arrays[name])

    def test_bindings_hand_results_on(self) -> None:
        arrays = dict(self.empty)
        binding = self.session.io_binding()
        for name in self.names:
            binding.bind_output(name)
        boxes = {name: box(array) for name, array in self.empty.items()}
        for step in range(20):
            x = self.tokens(40 if step == 0 else 1)
            expected = self.session.run(None, {"x": x, **arrays})
            binding.bind_cpu_input("x", x)
            for name, value in boxes.items():
                binding.bind_ortvalue_input(name, value)
            self.session.run_with_iobinding(binding)
            arrays, boxes = self.past(expected), self.past(binding.get_outputs())
            np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), expected[0])
            for copied, wanted in zip(binding.copy_outputs_to_cpu(), expected, strict=True):
                np.testing.assert_array_equal(copied, wanted)

    def test_what_is_written_into_the_array_counts(self) -> None:
        results = self.session.run_with_ort_values(
            None, {"x": box(self.tokens(40)), **{name: box(array) for name, array in self.empty.items()}}
        )
        boxes = self.past(results)
        for value in boxes.values():
            value.numpy()[:] = 0.5
        arrays = {name: np.full_like(value.numpy(), 0.5) for name, value in boxes.items()}
        x = self.tokens(1)
        expected = self.session.run(None, {"x": x, **arrays})
        found = self.session.run_with_ort_values(None, {"x": box(x), **boxes})
        for value, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(value.numpy(), wanted)

    def test_one_box_in_many_threads(self) -> None:
        start = self.session.run_with_ort_values(
            None, {"x": box(self.tokens(64)), **{name: box(array) for name, array in self.empty.items()}}
        )
        boxes = self.past(start)
        x = self.tokens(1)
        failures = []

        def work(looks: bool) -> None:
            try:
                first = None
                for _ in range(30):
                    results = [
                        value.numpy() for value in self.session.run_with_ort_values(None, {"x": box(x), **boxes})
                    ]
                    first = first or results
                    for one, other in zip(first, results, strict=True):
                        np.testing.assert_array_equal(one, other)
                    if looks:
                        for value in boxes.values():
                            value.numpy()
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(index == 3,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_texts_and_lists_in_boxes(self) -> None:
        session = apus.InferenceSession(
            model_of([helper.make_node("Identity", ["x"], ["y"])], {"x": tensor(TensorProto.STRING, ["n"])}, ["y"])
        )
        (found,) = session.run_with_ort_values(None, {"x": box(np.array(["a", "bc"], object))})
        self.assertEqual(found.numpy().tolist(), ["a", "bc"])
        (again,) = session.run_with_ort_values(None, {"x": found})
        self.assertEqual(again.numpy().tolist(), ["a", "bc"])


def info(name: str, *shape: object, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def scatter_model() -> onnx.ModelProto:
    """A cache of fixed size, written by TensorScatter and read by Attention."""
    nodes = [
        helper.make_node("TensorScatter", ["cache", "x", "position"], ["present"]),
        helper.make_node("Add", ["position", "one"], ["valid"]),
        helper.make_node("Attention", ["x", "present", "present", "", "", "", "valid"], ["y"]),
    ]
    cache, x = [1, HEADS, 128, SIZE], [1, HEADS, 1, SIZE]
    graph = helper.make_graph(
        nodes,
        "state",
        [info("x", *x), info("position", 1, kind=TensorProto.INT64), info("cache", *cache)],
        [info("y", *x), info("present", *cache)],
        [onnx.numpy_helper.from_array(np.array([1]), "one")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=11)


def grouped_model(batch: int, heads: int, size: int, room: int, rotary: int) -> onnx.ModelProto:
    """GroupQueryAttention whose pasts are as long as its presents."""
    inputs = ["query", "key", "value", "past_key", "past_value", "last", "total"]
    limits = ["cosines", "sines"] if rotary else []
    node = helper.make_node(
        "GroupQueryAttention",
        inputs + limits,
        ["y", "present_key", "present_value"],
        domain="com.microsoft",
        num_heads=2 * heads,
        kv_num_heads=heads,
        do_rotary=rotary,
    )
    cache = [batch, heads, room, size]
    angles = np.arange(room)[:, None] / 10 ** np.arange(size // 2)
    tables = {"cosines": np.cos(angles).astype(np.float32), "sines": np.sin(angles).astype(np.float32)}
    graph = helper.make_graph(
        [node],
        "state",
        [
            info("query", batch, "new", 2 * heads * size),
            info("key", batch, "new", heads * size),
            info("value", batch, "new", heads * size),
            info("past_key", *cache),
            info("past_value", *cache),
            info("last", batch, kind=TensorProto.INT32),
            info("total", kind=TensorProto.INT32),
        ],
        [info("y", batch, "new", 2 * heads * size), info("present_key", *cache), info("present_value", *cache)],
        [onnx.numpy_helper.from_array(tables[name], name) for name in limits],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


class FixedCaches(unittest.TestCase):
    """Boxes and memory bound as an input and as an output: state that runs update where it lies."""

    def setUp(self) -> None:
        self.random = np.random.default_rng(3)
        self.session = apus.InferenceSession(scatter_model(), threads=1)

    def token(self) -> np.ndarray:
        return self.random.standard_normal((1, HEADS, 1, SIZE)).astype(np.float32)

    def bound(self, value: apus.OrtValue) -> apus.IOBinding:
        binding = self.session.io_binding()
        binding.bind_output("y")
        binding.bind_ortvalue_input("cache", value)
        binding.bind_ortvalue_output("present", value)
        return binding

    def step(self, binding: apus.IOBinding, x: np.ndarray, position: int) -> None:
        binding.bind_cpu_input("x", x)
        binding.bind_cpu_input("position", np.array([position]))
        self.session.run_with_iobinding(binding)

    def test_a_box_is_updated(self) -> None:
        array = np.zeros((1, HEADS, 128, SIZE), np.float32)
        value = box(array)
        address = value.data_ptr()
        binding = self.bound(value)
        expected = array.copy()
        for position in range(40):
            x = self.token()
            y, expected = self.session.run(None, {"x": x, "position": np.array([position]), "cache": expected})
            self.step(binding, x, position)
            np.testing.assert_array_equal(binding.get_outputs()[0].numpy(), y)
            np.testing.assert_array_equal(array, expected)
            self.assertIs(binding.get_outputs()[1].numpy(), array)
        self.assertEqual(value.data_ptr(), address)

    def test_results_and_new_boxes_are_updated(self) -> None:
        first = self.session.run_with_ort_values(
            ["present"],
            {
                "x": box(self.token()),
                "position": box(np.array([0])),
                "cache": apus.OrtValue.ortvalue_from_shape_and_type([1, HEADS, 128, SIZE], np.float32),
            },
        )[0]
        expected = first.numpy().copy()
        binding = self.bound(first)
        for position in range(1, 5):
            x = self.token()
            expected = self.session.run(["present"], {"x": x, "position": np.array([position]), "cache": expected})[0]
            self.step(binding, x, position)
            np.testing.assert_array_equal(first.numpy(), expected)

    def test_memory_by_address(self) -> None:
        array = self.random.standard_normal((1, HEADS, 128, SIZE)).astype(np.float32)
        x = self.token()
        expected = self.session.run(["present"], {"x": x, "position": np.array([9]), "cache": array})[0]
        binding = self.session.io_binding()
        for bind, name in ((binding.bind_input, "cache"), (binding.bind_output, "present")):
            bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        self.step(binding, x, 9)
        np.testing.assert_array_equal(array, expected)

    def test_parts_of_arrays_are_copied(self) -> None:
        whole = self.random.standard_normal((2, HEADS, 128, SIZE)).astype(np.float32)
        # A part that lies dense, one that does not, and one that is not the input's.
        strided = np.moveaxis(whole[:1].copy(), 2, 3).copy().transpose(0, 1, 3, 2)
        for array in (whole[1:], strided):
            x = self.token()
            expected = self.session.run(["present"], {"x": x, "position": np.array([5]), "cache": array})[0]
            self.step(self.bound(box(array)), x, 5)
            np.testing.assert_array_equal(array, expected)
        x = self.token()
        binding = self.bound(box(whole[:1]))
        binding.bind_ortvalue_output("present", box(whole[1:]))
        before = whole[:1].copy()
        expected = self.session.run(["present"], {"x": x, "position": np.array([5]), "cache": before})[0]
        self.step(binding, x, 5)
        np.testing.assert_array_equal(whole[1:], expected)
        np.testing.assert_array_equal(whole[:1], before)

    def test_runs_that_fail(self) -> None:
        value = box(np.zeros((1, HEADS, 128, SIZE), np.float32))
        binding = self.bound(value)
        with self.assertRaisesRegex(Exception, "write_indices"):
            self.step(binding, self.token(), 128)
        # The box is still there for the next run.
        value.update_inplace(np.ones((1, HEADS, 128, SIZE), np.float32))
        x = self.token()
        expected = self.session.run(["present"], {"x": x, "position": np.array([1]), "cache": value.numpy().copy()})[0]
        self.step(binding, x, 1)
        np.testing.assert_array_equal(value.numpy(), expected)

    def donate(self, value: apus.OrtValue, x: np.ndarray, position: int) -> apus.OrtValue:
        feeds = {"x": box(x), "position": box(np.array([position])), "cache": value}
        return self.session.run_with_ort_values(["present"], feeds, donated=["cache"])[0]

    def test_boxes_that_are_given_away(self) -> None:
        expected = np.zeros((1, HEADS, 128, SIZE), np.float32)
        start = box(expected.copy())
        value = self.donate(start, self.token() * 0, 0)
        # An array of the caller is left as it is.
        np.testing.assert_array_equal(start.numpy(), np.zeros_like(expected))
        places = set()
        for position in range(40):
            x = self.token()
            expected = self.session.run(["present"], {"x": x, "position": np.array([position]), "cache": expected})[0]
            given, value = value, self.donate(value, x, position)
            self.assertFalse(given.has_value())
            places.add(apus._library.library().tensor_data(value._content._handle))
        self.assertEqual(len(places), 1)
        # Looked at, it is an array of the caller, which stays.
        np.testing.assert_array_equal(value.numpy(), expected)
        after = self.donate(value, self.token(), 3)
        np.testing.assert_array_equal(value.numpy(), expected)
        self.assertFalse(np.array_equal(after.numpy(), expected))

    def test_gifts_that_are_refused_or_lost(self) -> None:
        value = self.donate(box(np.zeros((1, HEADS, 128, SIZE), np.float32)), self.token(), 0)
        with self.assertRaisesRegex(apus.InputError, "'other' is donated and no input"):
            self.session.run_with_ort_values(None, {"cache": value}, donated=["other"])
        self.assertTrue(value.has_value())
        with self.assertRaisesRegex(Exception, "write_indices"):
            self.donate(value, self.token(), 128)
        self.assertFalse(value.has_value())
        with self.assertRaisesRegex(apus.InputError, "cache"):
            self.donate(value, self.token(), 0)

    def test_shared_buffers_of_grouped_queries(self) -> None:
        """Beside onnxruntime, which shares a buffer that is bound twice, too."""
        for seed in range(int(os.environ.get("APUS_CACHE_SEEDS", "40")) // 2):
            with self.subTest(seed=seed):
                self.grouped(np.random.default_rng(seed))

    def grouped(self, random: np.random.Generator) -> None:
        batch, heads, size = int(random.integers(1, 3)), int(random.integers(1, 4)), int(random.choice([16, 32]))
        room = int(random.choice([64, 100]))
        content = grouped_model(batch, heads, size, room, int(random.integers(0, 2))).SerializeToString()
        sessions = [
            apus.InferenceSession(content, threads=int(random.integers(1, 3))),
            onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]),
        ]
        values = [
            [module.OrtValue.ortvalue_from_numpy(np.zeros((batch, heads, room, size), np.float32)) for _ in range(2)]
            for module in (apus, onnxruntime)
        ]
        filled = 0
        for step in range(12):
            new = int(random.integers(1, 30)) if step == 0 else 1
            if random.random() < 0.2 and filled > 8:
                filled -= 5  # takes some tokens back
            feeds = {
                "query": random.standard_normal((batch, new, 2 * heads * size)).astype(np.float32),
                "key": random.standard_normal((batch, new, heads * size)).astype(np.float32),
                "value": random.standard_normal((batch, new, heads * size)).astype(np.float32),
                "last": np.full([batch], filled + new - 1, np.int32),
                "total": np.array(filled + new, np.int32),
            }
            found = []
            pasts = {
                f"past_{part}": value.numpy().copy() for part, value in zip(("key", "value"), values[0], strict=True)
            }
            copied = sessions[0].run(None, feeds | pasts)
            for session, caches in zip(sessions, values, strict=True):
                binding = session.io_binding()
                for name, array in feeds.items():
                    binding.bind_cpu_input(name, array)
                binding.bind_output("y")
                for part, value in zip(("key", "value"), caches, strict=True):
                    binding.bind_ortvalue_input(f"past_{part}", value)
                    binding.bind_ortvalue_output(f"present_{part}", value)
                session.run_with_iobinding(binding)
                found.append(binding.get_outputs()[0].numpy())
            filled += new
            np.testing.assert_array_equal(found[0], copied[0])
            np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)
            for mine, other, wanted in zip(*values, copied[1:], strict=True):
                np.testing.assert_array_equal(mine.numpy(), wanted)
                np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


class RandomDecoders(unittest.TestCase):
    """Decoders of random forms, fed with their own results in random sequences of calls, beside onnxruntime."""

    def model(self, random: np.random.Generator) -> tuple[onnx.ModelProto, dict]:
        heads, size = int(random.integers(1, 4)), int(random.choice([4, 8, 20]))
        group = int(random.choice([1, 1, 2]))
        axis = int(random.choice([2, -2]))
        form = str(random.choice(["Attention", "products", "masked", "safe"]))
        nodes, weights = [], []

        def constant(name: str, values: object, kind: type = np.int64) -> str:
            weights.append(onnx.numpy_helper.from_array(np.array(values, kind), name))
            return name

        for part in ("key", "value"):
            nodes.append(helper.make_node("Concat", [f"past_{part}", part], [f"present_{part}"], axis=axis))
        keys, values = "present_key", "present_value"
        if group > 1:
            constant("axis", [2])
            constant("times", [1, 1, group, 1, 1])
            constant("joined", [0, heads * group, -1, size])
            for name in (keys, values):
                nodes.append(helper.make_node("Unsqueeze", [name, "axis"], [f"{name}_wide"]))
                nodes.append(helper.make_node("Expand", [f"{name}_wide", "times"], [f"{name}_times"]))
                nodes.append(helper.make_node("Reshape", [f"{name}_times", "joined"], [f"{name}_repeated"]))
            keys, values = f"{keys}_repeated", f"{values}_repeated"
        if form == "Attention":
            nodes.append(helper.make_node("Attention", ["query", keys, values], ["result"]))
        else:
            constant("scale", 1 / np.sqrt(size), np.float32)
            nodes.append(helper.make_node("Transpose", [keys], ["columns"], perm=[0, 1, 3, 2]))
            nodes.append(helper.make_node("Mul", ["query", "scale"], ["scaled"]))
            nodes.append(helper.make_node("MatMul", ["scaled", "columns"], ["scores"]))
            scores = "scores"
            if form in ("masked", "safe"):
                nodes.append(helper.make_node("Add", [scores, "mask"], ["masked"]))
                scores = "masked"
            nodes.append(helper.make_node("Softmax", [scores], ["shares"], axis=-1))
            shares = "shares"
            if form == "safe":
                constant("zero", 0, np.float32)
                nodes.append(helper.make_node("IsNaN", [shares], ["none"]))
                nodes.append(helper.make_node("Where", ["none", "zero", shares], ["safe"]))
                shares = "safe"
            nodes.append(helper.make_node("MatMul", [shares, values], ["result"]))

        def info(name: str, *shape: object) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        inputs = [info("query", "batch", heads * group, "new", size)]
        for part in ("key", "value"):
            inputs.append(info(part, "batch", heads, "new", size))
            inputs.append(info(f"past_{part}", "batch", heads, "past", size))
        if form in ("masked", "safe"):
            inputs.append(info("mask", "batch", 1, "new", "past + new"))
        outputs = [info("result", "batch", heads * group, "new", size)]
        outputs += [info(f"present_{part}", "batch", heads, "past + new", size) for part in ("key", "value")]
        graph = helper.make_graph(nodes, "decoder", inputs, outputs, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
        return model, {"heads": heads, "group": group, "size": size, "masked": len(inputs) == 6}

    def test_random_sequences(self) -> None:
        for seed in range(int(os.environ.get("APUS_CACHE_SEEDS", "40"))):
            with self.subTest(seed=seed):
                self.sequence(np.random.default_rng(seed))

    def sequence(self, random: np.random.Generator) -> None:
        model, sizes = self.model(random)
        content = model.SerializeToString()
        session = apus.InferenceSession(content, threads=int(random.integers(1, 3)))
        oracle = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        batch = int(random.integers(1, 3))

        def numbers(*shape: int) -> np.ndarray:
            return random.standard_normal(shape).astype(np.float32)

        empty = np.zeros((batch, sizes["heads"], 0, sizes["size"]), np.float32)
        # Pasts that may be continued: as boxes, and as onnxruntime has them.
        states = [([box(empty), box(empty)], [empty, empty])]
        for step in range(30):
            boxes, arrays = states[int(random.integers(max(0, len(states) - 3), len(states)))]
            new = int(random.choice([1, 1, 1, 2, 40])) if step else int(random.integers(1, 130))
            feed = {
                "query": numbers(batch, sizes["heads"] * sizes["group"], new, sizes["size"]),
                "key": numbers(batch, sizes["heads"], new, sizes["size"]),
                "value": numbers(batch, sizes["heads"], new, sizes["size"]),
            }
            if sizes["masked"]:
                mask = np.where(random.random((batch, 1, new, arrays[0].shape[2] + new)) < 0.2, -np.inf, 0)
                feed["mask"] = mask.astype(np.float32)
            expected = oracle.run(None, feed | {"past_key": arrays[0], "past_value": arrays[1]})
            results = session.run_with_ort_values(
                None,
                {name: box(array) for name, array in feed.items()} | {"past_key": boxes[0], "past_value": boxes[1]},
            )
            np.testing.assert_allclose(results[0].numpy(), expected[0], rtol=1e-4, atol=1e-5)
            if random.random() < 0.2:
                for found, wanted in zip(results[1:], expected[1:], strict=True):
                    np.testing.assert_array_equal(found.numpy(), wanted)
            states.append((results[1:], expected[1:]))
        for boxes, arrays in states:
            for found, wanted in zip(boxes, arrays, strict=True):
                np.testing.assert_array_equal(found.numpy(), wanted)


if __name__ == "__main__":
    unittest.main()
