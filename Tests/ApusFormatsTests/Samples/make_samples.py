#!/usr/bin/env python3
"""Makes the sample files of ApusFormatsTests with onnx and NumPy.

Run it with the python that `tools/python-env test` prints; it writes beside itself. The results are committed.
"""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
TYPES = [t for t in TensorProto.DataType.values() if t not in (TensorProto.UNDEFINED, TensorProto.STRING)]


def elements(data_type: int) -> np.ndarray:
    """Seven elements (an odd number, so that packed types end inside a byte) with the extremes of the type."""
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    if data_type == TensorProto.BOOL:
        return np.array([True, False, True, True, False, False, True])
    if np.issubdtype(dtype, np.complexfloating):
        return np.array([0, 1, -2.5, 3 + 4j, -1j, 1e10, -7.25 + 0.5j]).astype(dtype)
    name = dtype.name
    if name.startswith(("int", "uint")):
        info = ml_dtypes.iinfo(dtype)
        return np.array([0, 1, info.min, info.max, info.max - 1, info.min + 1, 1], dtype=object).astype(dtype)
    info = ml_dtypes.finfo(dtype)
    values = np.array([1, 2, 0.5, 4, float(info.max), 1, 2], dtype=np.float64)
    if name != "float8_e8m0fnu":
        values[1] = float(info.min)
        values[2] = 0
    return values.astype(dtype)


def typed(data_type: int, array: np.ndarray, name: str) -> TensorProto:
    """The same elements in the typed field."""
    raw = numpy_helper.from_array(array, name)
    tensor = TensorProto(name=name, dims=array.shape, data_type=data_type)
    field = helper.tensor_dtype_to_field(data_type)
    if field in ("float_data", "double_data"):
        part = np.float32 if field == "float_data" else np.float64
        getattr(tensor, field).extend(array.view(part).tolist())
    elif data_type in (TensorProto.FLOAT6E2M3, TensorProto.FLOAT6E3M2):
        tensor.int32_data.extend(int(x) for x in array.view(np.uint8))
    elif data_type in (
        TensorProto.INT4,
        TensorProto.UINT4,
        TensorProto.FLOAT4E2M1,
        TensorProto.INT2,
        TensorProto.UINT2,
    ):
        tensor.int32_data.extend(raw.raw_data)
    elif array.dtype.kind in "iub" and array.dtype.kind != "V":
        getattr(tensor, field).extend(int(x) for x in array)
    else:
        bits = np.uint16 if array.dtype.itemsize == 2 else np.uint8
        tensor.int32_data.extend(int(x) for x in array.view(bits))
    return tensor


def tensors() -> onnx.ModelProto:
    """Every element type, once in raw_data and once in its typed field, as initializers `<type>.raw` and `.typed`."""
    initializers = []
    for data_type in TYPES:
        array = elements(data_type)
        name = TensorProto.DataType.Name(data_type).lower()
        initializers.append(numpy_helper.from_array(array, f"{name}.raw"))
        assert initializers[-1].data_type == data_type and initializers[-1].HasField("raw_data")
        initializers.append(typed(data_type, array, f"{name}.typed"))
        assert (numpy_helper.to_array(initializers[-1]).astype(object) == array.astype(object)).all(), name
    initializers.append(helper.make_tensor("string.typed", TensorProto.STRING, [2, 2], ["", "a", "Zürich", "雨燕"]))
    graph = helper.make_graph([], "tensors", [], [], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 28)], ir_version=14)


def values() -> dict[str, bytes]:
    arrays = [np.arange(3, dtype=np.float32), np.ones((2, 2), np.float32)]
    sequence = numpy_helper.from_list(arrays, "pair")
    return {
        "sequence": sequence.SerializeToString(),
        "optional": numpy_helper.from_optional(arrays[1], "some").SerializeToString(),
        "optional-none": numpy_helper.from_optional(None, "none", onnx.OptionalProto.TENSOR).SerializeToString(),
        "optional-sequence": numpy_helper.from_optional(arrays, "many").SerializeToString(),
        "map": numpy_helper.from_dict({1: arrays[0], -2: arrays[1]}, "table").SerializeToString(),
    }


def main() -> None:
    onnx.save(tensors(), HERE / "tensors.onnx")
    for name, content in values().items():
        (HERE / f"{name}.pb").write_bytes(content)


if __name__ == "__main__":
    main()
