"""What a case of operator speed is, and how one is written down in a line."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 22
# What a type counts as in the geometric means; every other type is "other".
KINDS = {
    "f32": "float32",
    "f16": "16 bit",
    "bf16": "16 bit",
    "u8": "integer",
    "s8": "integer",
    "u4": "integer",
    "f32 u8": "integer",
}
DTYPES = {
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "u8": np.uint8,
    "s8": np.int8,
    "i32": np.int32,
    "i64": np.int64,
    "bool": np.bool_,
}


@dataclass(frozen=True)
class Draw:
    """A tensor to draw: floats are normal, or uniform in [low, high) where bounds are given; integers uniform in them.

    A fixed one is an initializer, any other one is fed.
    """

    type: str
    shape: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    fixed: bool = False

    def draw(self, random: np.random.Generator) -> np.ndarray:
        dtype = np.dtype(DTYPES[self.type])
        if dtype.kind == "f":
            normal = self.low is None
            values = random.standard_normal(self.shape) if normal else random.uniform(self.low, self.high, self.shape)
            return np.asarray(values).astype(dtype)
        if dtype.kind == "b":
            return np.asarray(random.integers(0, 2, self.shape)).astype(bool)
        limits = np.iinfo(dtype)
        low = max(limits.min, -1000) if self.low is None else int(self.low)
        high = min(limits.max, 1000) + 1 if self.high is None else int(self.high)
        return np.asarray(random.integers(low, high, self.shape)).astype(dtype)


def draw(type: str, *shape: int, low: float | None = None, high: float | None = None) -> Draw:
    return Draw(type, shape, low, high)


def f32(*shape: int, low: float | None = None, high: float | None = None) -> Draw:
    return Draw("f32", shape, low, high)


def fixed(type: str, *shape: int, low: float | None = None, high: float | None = None) -> Draw:
    return Draw(type, shape, low, high, fixed=True)


def weight(*shape: int, scale: float = 0.05) -> Draw:
    """Fixed floats in [-scale, scale)."""
    return Draw("f32", shape, -scale, scale, fixed=True)


# An input of a case: a tensor to draw, a fixed array, or None for one left out.
Input = Draw | np.ndarray | None


@dataclass(frozen=True)
class Case:
    """One operator (or a few that belong together) at one size in one element type.

    `build` makes the model and what it is fed, the same bits each time. `tolerance` is relative to the largest element
    of an output, and replaces that of the output's type.
    """

    name: str
    family: str
    operator: str
    size: str
    type: str
    build: Callable[[], tuple[onnx.ModelProto, dict[str, np.ndarray]]]
    tolerance: float | None = None

    @property
    def kind(self) -> str:
        return KINDS.get(self.type, "other")


@dataclass(frozen=True)
class Node:
    """A node of a case of several: inputs by name, or the number of one of the case's inputs."""

    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: dict[str, Any] | None = None
    domain: str = ""


def generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def make_model(
    nodes: Sequence[onnx.NodeProto], arrays: dict[str, tuple[np.ndarray, bool]], outputs: Sequence[str], version: int
) -> onnx.ModelProto:
    """A model of `nodes` over named arrays, each with whether it is an initializer."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, (value, constant) in arrays.items()
        if not constant
    ]
    constants = [numpy_helper.from_array(value, name) for name, (value, constant) in arrays.items() if constant]
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(list(nodes), "case", inputs, results, constants)
    domains = {node.domain for node in nodes} - {""}
    versions = {"ai.onnx.ml": 3}
    opsets = [helper.make_opsetid("", version)]
    opsets += [helper.make_opsetid(domain, versions.get(domain, 1)) for domain in sorted(domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def realize(inputs: Sequence[Input], random: np.random.Generator) -> dict[str, tuple[np.ndarray, bool]]:
    """The arrays of inputs x0, x1, …, and whether each is constant; those left out have none."""
    arrays = {}
    for index, value in enumerate(inputs):
        if isinstance(value, Draw):
            arrays[f"x{index}"] = (value.draw(random), value.fixed)
        elif value is not None:
            arrays[f"x{index}"] = (np.asarray(value), True)
    return arrays


def one(
    operator: str,
    size: str,
    inputs: Sequence[Input],
    /,
    *,
    family: str,
    type: str = "f32",
    domain: str = "",
    outputs: int | Sequence[str] = 1,
    version: int = OPSET,
    tolerance: float | None = None,
    **attributes: Any,
) -> Case:
    """A case of one node. `outputs`: how many, or their names, empty for one left out."""
    name = f"{operator} {type} {size}"
    results = [f"y{index}" for index in range(outputs)] if isinstance(outputs, int) else list(outputs)

    def build() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        arrays = realize(inputs, generator(name))
        names = ["" if value is None else f"x{index}" for index, value in enumerate(inputs)]
        node = helper.make_node(operator, names, results, domain=domain, **attributes)
        model = make_model([node], arrays, [name for name in results if name], version)
        return model, {name: value for name, (value, constant) in arrays.items() if not constant}

    return Case(name, family, operator, size, type, build, tolerance)


def several(
    title: str,
    size: str,
    inputs: Sequence[Input],
    nodes: Sequence[Node],
    outputs: Sequence[str],
    *,
    family: str,
    type: str = "f32",
    version: int = OPSET,
    tolerance: float | None = None,
) -> Case:
    """A case of some nodes, which name the inputs x0, x1, …"""
    name = f"{title} {type} {size}"

    def build() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        arrays = realize(inputs, generator(name))
        protos = [
            helper.make_node(
                node.operator, list(node.inputs), list(node.outputs), domain=node.domain, **(node.attributes or {})
            )
            for node in nodes
        ]
        model = make_model(protos, arrays, outputs, version)
        return model, {name: value for name, (value, constant) in arrays.items() if not constant}

    return Case(name, family, title, size, type, build, tolerance)


def scalar(type: str, value: float) -> np.ndarray:
    return np.array(value, DTYPES[type])


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def retyped(value: Input, type: str) -> Input:
    """A drawn float tensor in another float type."""
    return replace(value, type=type) if isinstance(value, Draw) and value.type == "f32" else value


def in_type(case_of: Callable[[str], list[Case]], *types: str) -> list[Case]:
    return [case for type in types for case in case_of(type)]
