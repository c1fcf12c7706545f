"""The same small network in float16, bfloat16 and double, and one that casts between all numeric types."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np

from test_models import TestModel, parse

NETWORK = """
<ir_version: 10, opset_import: ["": 20]>
network (TYPE[batch, 12] x) => (TYPE[batch, 5] y)
{
  a = MatMul (x, W1)
  b = Add (a, b1)
  c = Tanh (b)
  d = MatMul (c, W2)
  y = Softmax <axis = -1> (d)
}
"""

CASTS = """
<ir_version: 10, opset_import: ["": 20]>
casts (float[n] x) => (
  double[n] d, float16[n] h, bfloat16[n] b, int32[n] i32, uint8[n] u8, bool[n] t, string[n] s, float8e4m3fn[n] f8)
{
  d = Cast <to = 11> (x)
  h = Cast <to = 10> (x)
  b = Cast <to = 16> (x)
  i32 = Cast <to = 6> (x)
  whole = Abs (i32)
  u8 = Cast <to = 2> (whole)
  t = Cast <to = 9> (x)
  s = Cast <to = 8> (i32)
  f8 = Cast <to = 17> (x)
}
"""

TYPES = {
    "float16": (np.float16, "onnxruntime", (1e-2, 1e-3)),
    "bfloat16": (ml_dtypes.bfloat16, "onnx", (5e-2, 1e-2)),
    "double": (np.float64, "onnxruntime", (1e-9, 1e-12)),
}


def network(name: str, dtype: type, reference: str, tolerance: tuple[float, float]) -> TestModel:
    random = np.random.default_rng(8)

    def numbers(*shape: int) -> np.ndarray:
        return random.normal(0, 0.5, shape).astype(dtype)

    proto = parse(NETWORK.replace("TYPE", name), W1=numbers(12, 16), b1=numbers(16), W2=numbers(16, 5))
    proto.graph.name = f"{name}_network"
    cases = [{"x": numbers(n, 12)} for n in (1, 4, 9)]
    return TestModel(f"{name}_network", proto, cases, reference=reference, tolerance=tolerance)


def models() -> Iterator[TestModel]:
    for name, (dtype, reference, tolerance) in TYPES.items():
        yield network(name, dtype, reference, tolerance)

    x = np.array([0, 1, -1, 2.5, -3.75, 100.25, 0.1], np.float32)
    yield TestModel("casts", parse(CASTS), [{"x": x}, {"x": x[:1]}], reference="onnx")
