"""Sequences and optionals as inputs, outputs and values between nodes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from test_models import TestModel, parse

SEQUENCES = """
<ir_version: 10, opset_import: ["": 20]>
sequence_edit (float[rows, 3] x, float[any, 3] extra, int64 at)
  => (seq(float[part, 3]) edited, int64 length, float[all, 3] joined, float[part, 3] chosen)
{
  two = Constant <value_int = 2> ()
  last = Constant <value_int = -1> ()
  parts = SplitToSequence <axis = 0> (x, two)
  longer = SequenceInsert (parts, extra, at)
  edited = SequenceErase (longer, last)
  length = SequenceLength (edited)
  joined = ConcatFromSequence <axis = 0> (edited)
  chosen = SequenceAt (edited, at)
}
"""

SEQUENCE_MAP = """
<ir_version: 10, opset_import: ["": 20]>
sequence_map (seq(float[n]) parts, float scale) => (seq(float[n]) scaled, float[count] sums)
{
  axis = Constant <value_ints = [0]> ()
  scaled, sum_parts = SequenceMap (parts) <
    body = each (float[n] part) => (float[n] product, float[1] total) {
      product = Mul (part, scale)
      total = ReduceSum (product, axis)
    }
  >
  sums = ConcatFromSequence <axis = 0> (sum_parts)
}
"""

OPTIONAL = """
<ir_version: 10, opset_import: ["": 20]>
optional_value (float[n] x, optional(float[n]) bias) => (float[n] y, bool present, optional(float[n]) kept)
{
  present = OptionalHasElement (bias)
  y = If (present) <
    then_branch = with () => (float[n] moved) {
      value = OptionalGetElement (bias)
      moved = Add (x, value)
    },
    else_branch = without () => (float[n] same) {
      same = Identity (x)
    }
  >
  kept = Optional (y)
}
"""


def models() -> Iterator[TestModel]:
    random = np.random.default_rng(5)

    def floats(*shape: int) -> np.ndarray:
        return random.normal(0, 1, shape).astype(np.float32)

    cases = [
        {"x": floats(rows, 3), "extra": floats(extra, 3), "at": np.array(at)}
        for rows, extra, at in ((5, 1, 0), (4, 3, 1), (2, 2, 0))
    ]
    yield TestModel("sequence_edit", parse(SEQUENCES), cases)

    cases = [
        {"parts": [floats(n) for n in sizes], "scale": np.array(1.5, np.float32)} for sizes in ((3, 1, 4), (2,), (5, 5))
    ]
    yield TestModel("sequence_map", parse(SEQUENCE_MAP), cases)

    cases = [{"x": floats(3), "bias": floats(3)}, {"x": floats(2), "bias": None}]
    yield TestModel("optional_value", parse(OPTIONAL), cases, alone="onnx's evaluator wraps optionals in lists")
