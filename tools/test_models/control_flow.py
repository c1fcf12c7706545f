"""If, Loop and Scan, with branches and bodies that read values of the graphs around them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from test_models import TestModel, parse

# The branches yield different shapes, and read x and weight from outside.
BRANCHES = """
<ir_version: 10, opset_import: ["": 20]>
if_branches (float[rows, 4] x) => (float[result_rows, width] y, bool positive)
<float[4, 3] weight>
{
  zero = Constant <value_float = 0.0> ()
  total = ReduceSum <keepdims = 0> (x)
  positive = Greater (total, zero)
  y = If (positive) <
    then_branch = project () => (float[then_rows, 3] projected) {
      product = MatMul (x, weight)
      projected = Relu (product)
    },
    else_branch = first_row () => (float[1, 4] first) {
      at = Constant <value_ints = [0]> ()
      row = Gather <axis = 0> (x, at)
      first = Neg (row)
    }
  >
}
"""

# Halve when even, 3n + 1 when odd, until 1: a trip count that only the data knows, and a growing scan output.
COLLATZ = """
<ir_version: 10, opset_import: ["": 20]>
loop_collatz (int64 start) => (int64 last, int64[steps] path)
{
  one = Constant <value_int = 1> ()
  limit = Constant <value_int = 1000> ()
  going = Greater (start, one)
  last, path = Loop (limit, going, start) <
    body = step (int64 round, bool alive, int64 n) => (bool again, int64 next, int64 seen) {
      two = Constant <value_int = 2> ()
      three = Constant <value_int = 3> ()
      rest = Mod (n, two)
      odd = Cast <to = 9> (rest)
      half = Div (n, two)
      tripled = Mul (n, three)
      up = Add (tripled, one)
      next = Where (odd, up, half)
      seen = Identity (n)
      again = Greater (next, one)
    }
  >
}
"""

# An exponential average along the first axis, and its distance from the input along the reversed second one.
SCAN = """
<ir_version: 10, opset_import: ["": 20]>
scan_average (float[channels] start, float[steps, channels] x)
  => (float[channels] last, float[steps, channels] smooth, float[channels, steps] distance)
<float keep = {0.75}>
{
  one = Constant <value_float = 1.0> ()
  fresh = Sub (one, keep)
  last, smooth, distance = Scan (start, x) <
    num_scan_inputs = 1, scan_output_axes = [0, 1], scan_output_directions = [0, 1],
    body = step (float[channels] state, float[channels] row)
      => (float[channels] next, float[channels] out, float[channels] gap) {
      old = Mul (state, keep)
      new = Mul (row, fresh)
      next = Add (old, new)
      out = Identity (next)
      difference = Sub (row, next)
      gap = Abs (difference)
    }
  >
}
"""

# A Loop in an If in a Loop; the innermost body reads a value of each graph around it.
NESTED = """
<ir_version: 10, opset_import: ["": 20]>
nested_capture (float[n] x, int64 rounds, int64 inner_rounds) => (float[n] y, float[rounds_made, 1] norms)
<float[1] growth = {1.5}>
{
  yes = Constant <value = bool {1}> ()
  two = Constant <value_int = 2> ()
  shifted = Add (x, growth)
  y, norms = Loop (rounds, yes, x) <
    body = outer (int64 round, bool alive, float[n] state) => (bool again, float[n] next, float[1] norm) {
      again = Identity (yes)
      scaled = Mul (state, growth)
      parity = Mod (round, two)
      odd = Cast <to = 9> (parity)
      next = If (odd) <
        then_branch = deepen () => (float[n] deep) {
          deep = Loop (inner_rounds, yes, scaled) <
            body = inner (int64 turn, bool turning, float[n] value) => (bool more, float[n] better) {
              more = Identity (turning)
              pull = Sub (shifted, value)
              part = Div (pull, growth)
              moved = Add (value, part)
              better = Min (moved, scaled)
            }
          >
        },
        else_branch = fall () => (float[n] fallen) {
          fallen = Sub (scaled, shifted)
        }
      >
      norm = ReduceL2 (next)
    }
  >
}
"""


def models() -> Iterator[TestModel]:
    random = np.random.default_rng(3)

    def floats(*shape: int) -> np.ndarray:
        return random.normal(0, 1, shape).astype(np.float32)

    weight = floats(4, 3)
    branches = parse(BRANCHES, weight=weight)
    yield TestModel("if_branches", branches, [{"x": np.abs(floats(3, 4))}, {"x": -np.abs(floats(5, 4))}])

    starts = [np.array(n, np.int64) for n in (6, 27, 1)]
    cases = [{"start": start} for start in starts]
    yield TestModel("loop_collatz", parse(COLLATZ), cases, alone="onnx's evaluator stacks scalars as rows")

    cases = [{"start": floats(c), "x": floats(steps, c)} for steps, c in ((4, 3), (9, 1), (1, 5))]
    yield TestModel("scan_average", parse(SCAN), cases)

    cases = [
        {"x": floats(n), "rounds": np.array(rounds), "inner_rounds": np.array(inner)}
        for n, rounds, inner in ((4, 5, 2), (1, 3, 0), (7, 0, 1))
    ]
    yield TestModel("nested_capture", parse(NESTED), cases)
