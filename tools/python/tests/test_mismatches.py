"""Shapes that do not fit one another, sizes that no memory holds, types that an operator does not give: errors, never
memory that is not theirs and never the end of the process. Each case ended the process, read what is not its own, or
gave nonsense once."""

from __future__ import annotations

import math
import sys
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path[:0] = [str(Path(__file__).resolve().parent)]
import apus
from models_for_tests import tensor

FLOAT, INT64, UINT8, INT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8, TensorProto.INT8
DOMAINS = {"ai.onnx.ml": 4, "com.microsoft": 1, "ai.onnx.preview": 1, "ai.onnx.preview.training": 1}


def attempt(
    op: str,
    inputs: list[Any],
    constants: tuple[int, ...] = (),
    outputs: list[str] | None = None,
    opset: int = 25,
    **attributes: Any,
) -> list[np.ndarray]:
    """The outputs of one operator, `domain::Name` or `Name`. An input is an array, a shape of float32 without elements,
    or None; those at `constants` and those without elements are constants of the model."""
    domain, _, name = op.rpartition("::")
    names, values, initializers, feeds = [], {}, [], {}
    for index, value in enumerate(inputs):
        names.append("" if value is None else f"i{index}")
        if isinstance(value, tuple):
            initializers.append(TensorProto(name=names[-1], data_type=FLOAT, dims=value, raw_data=b""))
        elif value is not None and index in constants:
            initializers.append(numpy_helper.from_array(np.asarray(value), names[-1]))
        elif value is not None:
            feeds[names[-1]] = np.asarray(value)
            values[names[-1]] = tensor(helper.np_dtype_to_tensor_dtype(feeds[names[-1]].dtype))
    node = helper.make_node(name, names, ["y"] if outputs is None else outputs, domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_value_info(key, kind) for key, kind in values.items()],
        [onnx.ValueInfoProto(name=key) for key in node.output if key],
        initializer=initializers,
    )
    versions = {"": opset} | DOMAINS
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(key, value) for key, value in versions.items()])
    found: list[list[np.ndarray]] = []
    for optimize in (True, False):
        found.append(apus.InferenceSession(model, optimize=optimize).run(None, feeds))
    for optimized, plain in zip(*found, strict=True):
        np.testing.assert_allclose(optimized, plain, rtol=1e-5, atol=1e-6)
    return found[0]


def floats(*shape: int) -> np.ndarray:
    return (np.arange(math.prod(shape)) % 7 - 3).astype(np.float32).reshape(shape) / 4


HUGE = 1 << 62
AGAIN = 1 << 31

# What must be an error: by name, the arguments of `attempt`.
REFUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    # Inputs that must agree with one another.
    "regions and their images": (
        ("com.microsoft::CropAndResize", [floats(1, 1, 4, 7), floats(4, 4), np.zeros(3, np.int32), np.int32([2, 2])]),
        {},
    ),
    "values of OneHot in two axes": (("OneHot", [np.int64([0, 2]), np.int64(3), np.ones((1, 1), np.float32)]), {}),
    "a pad without an element": (("Pad", [floats(2), np.int64([1, 1]), (0,)]), {}),
    "a pad of two elements": (("Pad", [floats(2), np.int64([1, 1]), floats(2)]), {}),
    "operands of two types": (("Einsum", [floats(4), np.ones(4, np.int8)]), {"equation": "i,i->"}),
    "an operand that is absent": (("Einsum", [floats(4), None, floats(4)]), {"equation": "i,,i->i"}),
    "a zero point for each element of a column": (
        ("MatMulInteger", [np.ones((1, 3), np.int8), np.full(3, 10, np.int8), None, np.int8([1, 2, 3])]),
        {},
    ),
    "fewer outputs than the rule has": (
        ("ai.onnx.preview.training::Momentum", [np.float32(1), np.int64(1)] + [floats(1000)] * 3),
        {"alpha": 0.9, "beta": 0.9, "mode": "standard", "norm_coefficient": 0.0},
    ),
    "blocks of an image that cannot be": (
        ("Col2Im", [floats(1, 1, 1), np.int64([1, 1, 100_000]), np.int64([1, 1, 1])]),
        {"pads": [0, 0, 0, AGAIN - 1, AGAIN - 1, AGAIN - 1]},
    ),
    "a region with too few numbers": (
        ("Resize", [floats(1, 1, 4, 4), np.float32([0, 0, 0.5]), None, np.int64([1, 1, 2, 2])]),
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
    ),
    "a number for texts": (
        ("Resize", [np.array(["a", "b"], object), np.float32([-1, 2]), None, np.int64([5])]),
        {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 1e6},
    ),
    "scales that are absent": (
        (
            "com.microsoft::QMoE",
            [floats(2, 4), floats(2, 1), np.ones((1, 1, 4), np.uint8), None, None, np.ones((1, 4, 1), np.uint8)]
            + [np.ones((1, 4), np.float32)],
        ),
        {"k": 1, "expert_weight_bits": 8},
    ),
    "blocks of half a byte": (
        (
            "com.microsoft::QMoE",
            [floats(2, 4), floats(2, 1), np.ones((1, 2, 2), np.uint8), np.ones((1, 2, 4), np.float32), None]
            + [np.ones((1, 4, 1), np.uint8), np.ones((1, 4, 2), np.float32)],
        ),
        {"k": 1, "expert_weight_bits": 4, "block_size": 1},
    ),
    "scores of no kind": (
        ("com.microsoft::GroupQueryAttention", [floats(1, 3, 12)] + [None] * 4 + [np.int32([2]), np.int32(3)], (5, 6)),
        {"num_heads": 2, "kv_num_heads": 2, "qk_output": 0, "outputs": ["y", "", "", "qk"]},
    ),
    "a query of two axes": (
        ("com.microsoft::MultiHeadAttention", [floats(4, 8), floats(4, 8), floats(4, 8), floats(24)]),
        {"num_heads": 2},
    ),
    "a pool over no axes": (
        ("com.microsoft::QLinearGlobalAveragePool", [np.ones((2, 3), np.uint8), np.float32(1), None, np.float32(1)]),
        {"channels_last": 1},
    ),
    "a scale that is no divisor of the columns": (
        ("com.microsoft::GatedRMSNorm", [floats(2, 6), floats(4), floats(2, 6)]),
        {},
    ),
    # Types that an operator does not give.
    "labels of four bits": (
        ("ai.onnx.ml::LabelEncoder", [np.int64([1, 2])]),
        {
            "keys_tensor": numpy_helper.from_array(np.int64([1, 2])),
            "values_tensor": helper.make_tensor("v", TensorProto.INT4, [2], [1, 2]),
        },
    ),
    "a text for every element": (
        ("ConstantOfShape", [np.int64([3])]),
        {"value": helper.make_tensor("v", TensorProto.STRING, [1], [b"a"])},
    ),
    # Numbers that nothing can be made of.
    "fewer vectors than none": (
        ("ai.onnx.ml::SVMRegressor", [floats(1, 2)]),
        {"n_supports": -1, "rho": [0.5], "support_vectors": [1.0, 2.0]},
    ),
    "lengths that overflow": (
        ("Split", [np.ones(4, np.int8), np.int64([(1 << 60) - 1] * 9 + [4])]),
        {"outputs": [f"y{index}" for index in range(10)]},
    ),
    "a negative length": (("SplitToSequence", [floats(4), np.int64([-1, -1])]), {}),
    "a long padding": (
        ("AveragePool", [floats(1024, 1, 1)]),
        {"kernel_shape": [1], "pads": [AGAIN - 1, AGAIN - 1]},
    ),
    "products that no memory holds": (
        ("MatMul", [np.ones((1 << 20, 1, 1, 1), np.float32), np.ones((1, 1 << 20, 1, 1), np.float32)]),
        {},
    ),
    "an axis before the first": (
        ("Add", [floats(2, 3), floats(3)]),
        {"opset": 6, "broadcast": 1, "axis": -(1 << 63)},
    ),
    "windows of a huge input": (("com.microsoft::UnfoldTensor", [(0, 1 << 40)]), {"size": 1 << 30}),
    "blocks of a huge matrix": (
        ("com.microsoft::MatMulNBits", [np.ones((1, 1 << 20), np.float32), np.ones((1, 1, 8), np.uint8), floats(1)]),
        {"K": 1 << 20, "N": 1 << 46, "bits": 4, "block_size": 16},
    ),
    "heads that overflow": (
        ("com.microsoft::GroupQueryAttention", [floats(1, 1, 8)] + [None] * 4 + [np.int32([0]), np.int32(1)], (5, 6)),
        {"num_heads": HUGE, "kv_num_heads": HUGE},
    ),
    "targets that no memory holds": (("ai.onnx.ml::LinearRegressor", [(1, 0)]), {"targets": 1 << 54}),
    # Tensors without elements whose other extents multiply to more than there can be.
    "a convolution without channels": (("Conv", [(1, 0, 1 << 60, 1), (1, 0, 1 << 60, 1)]), {}),
    "deformed windows without channels": (
        ("DeformConv", [(1, 0, AGAIN, AGAIN), (1, 0, AGAIN, AGAIN), floats(1, 5, 1, 1)]),
        {},
    ),
    "windows of nothing": (
        ("MaxPool", [(1, 1, 1 << 30, 1 << 30, 0)]),
        {"kernel_shape": [1 << 30, 1 << 30, 1], "pads": [0, 0, 1, 0, 0, 0]},
    ),
    "steps without end": (
        ("LSTM", [(1 << 40, 1, 0), (1, 2048, 0), np.ones((1, 2048, 512), np.float32)]),
        {"hidden_size": 512, "outputs": ["", "h"]},
    ),
    "units without end": (("LSTM", [floats(2, 1, 3), (1, 0, 3), (1, 0, 1 << 61)]), {"outputs": ["", "h"]}),
    "a factor without end": (("Einsum", [(AGAIN, AGAIN, 0), floats(1, 1)]), {"equation": "abe,ab->"}),
    "an empty product without end": (("MatMul", [(2, 0), (1 << 40, 0, 4)]), {}),
    "rows without end": (("GatherElements", [(0, 3 << 60), np.zeros((1, 1), np.int64)]), {}),
    "a sum without end": (("ReduceSum", [(0, 1 << 40), np.int64([0])]), {}),
    "a picture without end": (("GridSample", [(1, 1 << 57, 0, 1), floats(1, 1, 1, 2)]), {}),
    "a cache without end": (
        (
            "com.microsoft::GroupQueryAttention",
            [floats(1, 1, 12)] + [None] * 4 + [np.int32([0]), np.int32(1), (0, HUGE), (0, HUGE)],
            (5, 6),
        ),
        {"num_heads": 2, "kv_num_heads": 2, "do_rotary": 1},
    ),
}


class Mismatches(unittest.TestCase):
    def test_refused(self) -> None:
        for name, (arguments, options) in REFUSED.items():
            with self.subTest(name), self.assertRaises((apus.Error, ValueError)) as caught:
                attempt(*arguments, **options)
            self.assertNotIn("fault of Apus", str(caught.exception), name)


class Edges(unittest.TestCase):
    """Shapes at the edge that are right."""

    def test_a_label_of_one_row(self) -> None:
        for rows in (5, 200):
            a, b, c = floats(1, 4), floats(4, 3), floats(rows, 3)
            (found,) = attempt("Einsum", [a, b, c], equation="ab,bc,ac->ac")
            np.testing.assert_allclose(found, (a @ b) * c, rtol=1e-5)

    def test_an_empty_diagonal(self) -> None:
        for shape in [(0, 1), (1, 0)]:
            self.assertEqual(attempt("Einsum", [shape], equation="ii->")[0], 0)

    def test_products_without_terms(self) -> None:
        np.testing.assert_array_equal(attempt("MatMul", [(2, 0), (0, 3)])[0], np.zeros((2, 3)))
        self.assertEqual(attempt("MatMul", [floats(2, 4), (1 << 26, 4, 0)])[0].shape, (1 << 26, 2, 0))

    def test_many_products_that_share_factors(self) -> None:
        a, b = floats(300, 1, 2, 3), floats(1, 300, 3, 2)
        np.testing.assert_allclose(attempt("MatMul", [a, b])[0], a @ b, rtol=1e-5, atol=1e-6)

    def test_zero_points_of_batches(self) -> None:
        """Of a matrix that many products share."""
        random = np.random.default_rng(3)
        a, b = random.integers(0, 9, (2, 1, 3, 4), np.uint8), random.integers(0, 9, (1, 3, 4, 2), np.uint8)
        az, bz = random.integers(0, 9, (2, 1, 3, 1), np.uint8), random.integers(0, 9, (1, 3, 1, 2), np.uint8)
        one, zero = np.float32([1]), np.uint8([0])
        scales = np.ones((2, 1, 3, 1), np.float32), np.ones((1, 3, 1, 2), np.float32)
        wanted = np.matmul(a.astype(np.int32) - az, b.astype(np.int32) - bz)
        (found,) = attempt("QLinearMatMul", [a, scales[0], az, b, scales[1], bz, one, zero])
        np.testing.assert_array_equal(found, wanted.clip(0, 255))

    def test_windows_that_see_everything(self) -> None:
        """A window as large as an integer."""
        q, k, v = floats(1, 1, 3, 2), floats(1, 1, 3, 2) * 2, floats(1, 1, 3, 2) * 3
        wanted = attempt("Attention", [q, k, v])[0]
        found = attempt("Attention", [q, k, v], left_window_size=(1 << 63) - 1, right_window_size=(1 << 63) - 1)[0]
        np.testing.assert_array_equal(found, wanted)

    def test_windows_over_nothing(self) -> None:
        """Of an empty image only the padding is seen; weights that were packed are not needed."""
        x, w, bias = (2, 3, 0, 4), floats(5, 3, 2, 3), floats(5)
        wanted = np.broadcast_to(bias[:, None, None], (2, 5, 1, 4))
        found = attempt("Conv", [np.zeros(x, np.float32), w, bias], (1, 2), pads=[1, 1, 1, 1])[0]
        np.testing.assert_array_equal(found, wanted)
        found = attempt(
            "ConvInteger", [np.zeros(x, np.uint8), np.ones((5, 3, 2, 3), np.uint8)], (1,), pads=[1, 1, 1, 1]
        )
        np.testing.assert_array_equal(found[0], np.zeros((2, 5, 1, 4)))

    def test_many_products_of_a_transposed_convolution(self) -> None:
        """More than are held at a time."""
        x, w = floats(1, 2, 1500, 700), floats(2, 16, 3, 3)
        found = attempt("ConvTranspose", [x, w], (1,), strides=[2, 2])[0]
        # Odd outputs see the middle tap alone.
        wanted = np.einsum("bchw,co->bohw", x, w[:, :, 1, 1])
        np.testing.assert_allclose(found[:, :, 1:-1:2, 1:-1:2], wanted, rtol=1e-5, atol=1e-5)

    def test_types_that_the_file_does_not_say(self) -> None:
        """The kernel is chosen when they are known."""
        node = helper.make_node("Attention", ["q", "k", "v"], ["y"])
        feeds = {name: floats(1, 2, 3, 8).astype(np.float16) * (1 + index) for index, name in enumerate("qkv")}
        results = []
        for number in (TensorProto.FLOAT16, TensorProto.UNDEFINED):
            kinds = [tensor(TensorProto.FLOAT16), tensor(TensorProto.FLOAT16), tensor(number)]
            values = [helper.make_value_info(name, kind) for name, kind in zip("qkv", kinds, strict=True)]
            graph = helper.make_graph([node], "test", values, [onnx.ValueInfoProto(name="y")])
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)])
            for optimize in (True, False):
                results.append(apus.InferenceSession(model, optimize=optimize).run(None, feeds)[0])
        for found in results[1:]:
            np.testing.assert_array_equal(found, results[0])

    def test_the_last_of_many_rows(self) -> None:
        """Where float32 has no number for it."""
        x = np.ones((1, 1, 16_777_220, 1), np.float32)
        for mode in ("bilinear", "nearest"):
            (found,) = attempt(
                "com.microsoft::CropAndResize",
                [x, np.ones((1, 4), np.float32), np.int32([0]), np.int32([1, 1])],
                mode=mode,
            )
            self.assertEqual(found, 1)


if __name__ == "__main__":
    unittest.main()
