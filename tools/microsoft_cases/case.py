"""A model of one node with random inputs, as it is put together by a generator."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GENERATORS: dict[str, Callable[["Case"], None]] = {}


def generator(*names: str) -> Callable[[Callable], Callable]:
    """Registers a generator under the names of operators; with several, it gets the name as its second argument."""

    def register(function: Callable) -> Callable:
        for name in names:
            GENERATORS[name] = function if len(names) == 1 else lambda case, name=name: function(case, name)
        return function

    return register


class Case:
    """Inputs, one node, outputs, and how near the results must come."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.feeds: dict[str, np.ndarray] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.rtol, self.atol = 1e-3, 1e-5
        self.dtype = np.float32

    # Choices

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def size(self, low: int = 1, high: int = 8) -> int:
        return int(self.rng.integers(low, high + 1))

    def shape(self, rank: int, low: int = 1, high: int = 6) -> list[int]:
        return [self.size(low, high) for _ in range(rank)]

    def float_type(self, half: float = 0.2) -> type:
        """float32, sometimes float16; sets the tolerance that goes with it."""
        if self.chance(half):
            self.dtype, self.rtol, self.atol = np.float16, 2e-2, 1e-2
        return self.dtype

    # Values

    def floats(self, shape: Sequence[int], scale: float = 1.0) -> np.ndarray:
        return (self.rng.standard_normal(tuple(shape)) * scale).astype(self.dtype)

    def integers(self, shape: Sequence[int], low: int, high: int, dtype: Any = np.int64) -> np.ndarray:
        """Integers from low to high - 1."""
        return self.rng.integers(low, high, tuple(shape)).astype(dtype)

    def quantized(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        limits = np.iinfo(dtype)
        return self.integers(shape, limits.min, limits.max + 1, dtype)

    # The model

    def input(self, array: np.ndarray | None, constant: bool | float = False, elem_type: int | None = None) -> str:
        """The name of a graph input, or of an initializer (with a probability, if `constant` is one)."""
        if array is None:
            return ""
        array = np.asarray(array)
        name = f"i{len(self.inputs) + len(self.initializers)}"
        if constant is True or (constant is not False and self.chance(float(constant))):
            self.initializers.append(numpy_helper.from_array(array, name))
            return name
        dims: list[int | str] = [f"{name}_{axis}" if self.chance(0.3) else size for axis, size in enumerate(array.shape)]
        self.inputs.append(
            helper.make_tensor_value_info(name, elem_type or helper.np_dtype_to_tensor_dtype(array.dtype), dims))
        self.feeds[name] = array
        return name

    def initializer(self, tensor: onnx.TensorProto) -> str:
        tensor.name = f"i{len(self.inputs) + len(self.initializers)}"
        self.initializers.append(tensor)
        return tensor.name

    def node(self, op: str, inputs: Sequence[str], outputs: Sequence[Any], domain: str = "com.microsoft", **attributes: Any) -> None:
        """Adds the node; `outputs` are element types, None for one that is not wanted."""
        inputs = list(inputs)
        while inputs and not inputs[-1]:
            inputs.pop()
        names = []
        for dtype in outputs:
            if dtype is None:
                names.append("")
                continue
            name = f"o{len(self.outputs)}"
            names.append(name)
            elem = dtype if isinstance(dtype, int) else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
            self.outputs.append(helper.make_tensor_value_info(name, elem, None))
        while names and not names[-1]:
            names.pop()
        kept = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **kept))

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "case", self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def write(self, folder: Path, results: list[np.ndarray]) -> None:
        data = folder / "test_data_set_0"
        data.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(self.model().SerializeToString())
        (folder / "tolerance.json").write_text(json.dumps({"rtol": self.rtol, "atol": self.atol}))
        for index, (name, array) in enumerate(self.feeds.items()):
            (data / f"input_{index}.pb").write_bytes(numpy_helper.from_array(array, name).SerializeToString())
        for index, array in enumerate(results):
            (data / f"output_{index}.pb").write_bytes(numpy_helper.from_array(np.asarray(array), f"o{index}").SerializeToString())


STRING = TensorProto.STRING
