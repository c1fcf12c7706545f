"""Shapes computed in the graph from symbolic dimensions, the way exporters write them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from test_models import TestModel, parse

# Self-attention with heads split and merged through Shape, Gather, Concat and Reshape.
ATTENTION = """
<ir_version: 8, opset_import: ["": 17]>
reshape_chain (float[batch, sequence, 16] x) => (float[batch, sequence, 16] y, int64[3] shape)
<int64 heads = {4}, int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64[1] first = {0}, float scale = {0.5}>
{
  shape = Shape (x)
  batch_size = Gather (shape, zero)
  length = Gather (shape, one)
  width = Gather (shape, two)
  per_head = Div (width, heads)
  three = Add (one, two)
  b1 = Unsqueeze (batch_size, first)
  l1 = Unsqueeze (length, first)
  k1 = Unsqueeze (three, first)
  h1 = Unsqueeze (heads, first)
  p1 = Unsqueeze (per_head, first)
  w1 = Unsqueeze (width, first)
  split_shape = Concat <axis = 0> (b1, l1, k1, h1, p1)
  merged_shape = Concat <axis = 0> (b1, l1, w1)
  projected = MatMul (x, W)
  split = Reshape (projected, split_shape)
  turned = Transpose <perm = [2, 0, 3, 1, 4]> (split)
  q = Gather <axis = 0> (turned, zero)
  k = Gather <axis = 0> (turned, one)
  v = Gather <axis = 0> (turned, two)
  kt = Transpose <perm = [0, 1, 3, 2]> (k)
  scores = MatMul (q, kt)
  scaled = Mul (scores, scale)
  weights = Softmax <axis = -1> (scaled)
  mixed = MatMul (weights, v)
  back = Transpose <perm = [0, 2, 1, 3]> (mixed)
  y = Reshape (back, merged_shape)
}
"""

# Sizes that are sums, products and quotients of two symbols; views by Slice, Pad to a multiple, fold and unfold.
ARITHMETIC = """
<ir_version: 8, opset_import: ["": 17]>
shape_arithmetic (float[a, b] x, float[c, b] y) => (float[rows, 4] folded, float[d, d] eye, float[b, e] outer)
<int64[1] start = {0}, int64[1] four = {4}, int64[1] minus = {-1}, int64[1] none = {0}, int64 first_axis = {0},
 int64[1] stop = {-9223372036854775807}, int64[1] both = {1}>
{
  joined = Concat <axis = 0> (x, y)
  reversed = Slice (joined, minus, stop, start, minus)
  size = Size (reversed)
  size1 = Reshape (size, four_shape)
  over = Mod (size1, four)
  lack = Sub (four, over)
  wanted = Mod (lack, four)
  line = Reshape (reversed, minus)
  ends = Concat <axis = 0> (none, wanted)
  padded = Pad (line, ends)
  four_wide = Concat <axis = 0> (minus, four)
  folded = Reshape (padded, four_wide)
  rows = Shape <start = 0, end = 1> (joined)
  square = Concat <axis = 0> (rows, rows)
  blank = ConstantOfShape <value = float[1] {0.0}> (square)
  eye = EyeLike <k = 1> (blank)
  columns = Shape <start = 1, end = 2> (x)
  tall = Concat <axis = 0> (columns, both)
  total = ReduceSum (joined, start)
  column = Reshape (total, tall)
  line_y = ReduceMax <axes = [1], keepdims = 0> (joined)
  outer = Mul (column, line_y)
}
"""


def models() -> Iterator[TestModel]:
    random = np.random.default_rng(9)

    def floats(*shape: int) -> np.ndarray:
        return random.normal(0, 1, shape).astype(np.float32)

    proto = parse(ATTENTION, W=floats(16, 48))
    yield TestModel("reshape_chain", proto, [{"x": floats(*shape, 16)} for shape in ((1, 5), (3, 2), (2, 1))])

    proto = parse(ARITHMETIC, four_shape=np.array([1], np.int64))
    cases = [{"x": floats(a, b), "y": floats(c, b)} for a, b, c in ((2, 3, 1), (1, 1, 1), (4, 5, 3))]
    yield TestModel("shape_arithmetic", proto, cases)
