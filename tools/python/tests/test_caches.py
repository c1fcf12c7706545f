"""Results in boxes that go into the next run: caches that grow in place, and what a look at them in between does."""

from __future__ import annotations

import sys
import threading
import unittest
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]
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
        from models_for_tests import model_of, tensor
        from onnx import TensorProto, helper

        session = apus.InferenceSession(
            model_of([helper.make_node("Identity", ["x"], ["y"])], {"x": tensor(TensorProto.STRING, ["n"])}, ["y"])
        )
        (found,) = session.run_with_ort_values(None, {"x": box(np.array(["a", "bc"], object))})
        self.assertEqual(found.numpy().tolist(), ["a", "bc"])
        (again,) = session.run_with_ort_values(None, {"x": found})
        self.assertEqual(again.numpy().tolist(), ["a", "bc"])


if __name__ == "__main__":
    unittest.main()
