"""Functions that a model brings along: nested, called twice, with attributes given, defaulted and handed down."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from test_models import TestModel, parse

FUNCTIONS = """
<ir_version: 10, opset_import: ["": 20, "local": 1]>
model_functions (float[batch, 8] x) => (float[batch, 8] y, float[batch, 8] gates)
<float[8] scale, float[8, 8] W>
{
  a = local.Norm (x, scale)
  b = MatMul (a, W)
  c, gates = local.Block <slope = 0.3> (b, scale)
  y, unused = local.Block <slope = 0.1, epsilon = 0.01> (c, scale)
}

<domain: "local", opset_import: ["": 20]>
Norm <epsilon: float = 0.00001> (x, scale) => (y)
{
  small = Constant <value_float: float = @epsilon> ()
  square = Mul (x, x)
  axes = Constant <value_ints = [-1]> ()
  mean = ReduceMean (square, axes)
  safe = Add (mean, small)
  root = Sqrt (safe)
  unit = Div (x, root)
  y = Mul (unit, scale)
}

<domain: "local", opset_import: ["": 20, "local": 1]>
Block <slope, epsilon: float = 0.001> (x, scale) => (y, gate)
{
  normal = local.Norm <epsilon: float = @epsilon> (x, scale)
  gate = HardSigmoid <alpha: float = @slope> (normal)
  bent = LeakyRelu <alpha: float = @slope> (normal)
  gated = Mul (bent, gate)
  y = Add (gated, x)
}
"""


def models() -> Iterator[TestModel]:
    random = np.random.default_rng(7)

    def floats(*shape: int) -> np.ndarray:
        return random.normal(0, 1, shape).astype(np.float32)

    proto = parse(FUNCTIONS, scale=floats(8), W=floats(8, 8))
    yield TestModel("model_functions", proto, [{"x": floats(n, 8)} for n in (1, 2, 6)])
