"""Ways to keep weights: in a side file, sparse, as defaults of inputs, and in every numeric field a tensor has."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from test_models import TestModel, parse

EXTERNAL = """
<ir_version: 10, opset_import: ["": 20]>
external_weights (float[batch, 24] x) => (float[batch, 6] y)
{
  a = Gemm <transB = 1> (x, W1, b1)
  b = Tanh (a)
  y = Gemm (b, W2, b2)
}
"""

SPARSE = """
<ir_version: 10, opset_import: ["": 20]>
sparse_weights (float[batch, 8] x) => (float[batch, 6] y)
<float[6] bias = {0.0, 0.5, 1.0, 1.5, 2.0, 2.5}>
{
  product = MatMul (x, W)
  y = Add (product, bias)
}
"""

# Initializers that are inputs too. In IR 3 all must be and the caller leaves them alone; later they are defaults.
DEFAULTS = """
<ir_version: VERSION, opset_import: ["": 8]>
defaults (float[1, 3] x, float[3, 2] W, float[1, 2] b) => (float[1, 2] y)
{
  product = MatMul (x, W)
  y = Add (product, b)
}
"""

FIELDS = """
<ir_version: 10, opset_import: ["": 20]>
tensor_fields (float[n] x) => (
  float[n, 6] y, double[2] d, int8[3] i8, uint16[2] u16, bool[2] flags, string[2] words, float16[2] h)
{
  column = Unsqueeze (x, last)
  plain = Add (column, typed)
  y = Mul (plain, raw)
  d = Identity (doubles)
  i8 = Identity (bytes)
  u16 = Identity (shorts)
  flags = Identity (bools)
  words = Identity (texts)
  h = Identity (halves)
}
"""


def sparse(dense: np.ndarray, name: str) -> onnx.SparseTensorProto:
    """A matrix in ONNX's coordinate form, indices as (row, column) pairs."""
    places = np.argwhere(dense)
    values = numpy_helper.from_array(dense[tuple(places.T)], name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(places.astype(np.int64)), dense.shape)


def typed_fields() -> dict[str, onnx.TensorProto]:
    """Tensors in the typed fields of TensorProto instead of raw_data."""
    kinds = onnx.TensorProto
    return {
        "typed": helper.make_tensor("", kinds.FLOAT, [6], [0, 0.5, 1, -1, 2, 3]),
        "raw": numpy_helper.from_array(np.array([1, 2, 3, 4, 5, 6], np.float32)),
        "last": helper.make_tensor("", kinds.INT64, [1], [-1]),
        "doubles": helper.make_tensor("", kinds.DOUBLE, [2], [1e-300, -2.5]),
        "bytes": helper.make_tensor("", kinds.INT8, [3], [-128, 0, 127]),
        "shorts": helper.make_tensor("", kinds.UINT16, [2], [0, 65535]),
        "bools": helper.make_tensor("", kinds.BOOL, [2], [True, False]),
        "texts": helper.make_tensor("", kinds.STRING, [2], ["", "žluťoučký kůň"]),
        "halves": helper.make_tensor("", kinds.FLOAT16, [2], [0.5, -65504]),
    }


def models() -> Iterator[TestModel]:
    random = np.random.default_rng(6)

    def floats(*shape: int) -> np.ndarray:
        return random.normal(0, 1, shape).astype(np.float32)

    external = parse(EXTERNAL, W1=floats(16, 24), b1=floats(16), W2=floats(16, 6), b2=floats(6))
    yield TestModel(
        "external_weights", external, [{"x": floats(n, 24)} for n in (1, 3, 8)], external="external_weights.bin"
    )

    dense = np.where(random.random((8, 6)) < 0.25, floats(8, 6), 0).astype(np.float32)
    proto = parse(SPARSE)
    proto.graph.sparse_initializer.append(sparse(dense, "W"))
    yield TestModel("sparse_weights", proto, [{"x": floats(n, 8)} for n in (1, 2, 5)])

    x, weights = floats(1, 3), floats(3, 2)
    bias = floats(1, 2)
    old = parse(DEFAULTS.replace("VERSION", "3"), W=weights, b=bias)
    yield TestModel("ir3_initializer_inputs", old, [{"x": x}])
    new = parse(DEFAULTS.replace("VERSION", "4"), W=weights, b=bias)
    yield TestModel("default_inputs", new, [{"x": x}, {"x": x, "W": 2 * weights}])

    yield TestModel("tensor_fields", parse(FIELDS, **typed_fields()), [{"x": floats(n)} for n in (1, 4, 0)])
