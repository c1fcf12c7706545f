"""Small models that several of the tests use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "tools/python"), str(ROOT / "tools")]
MODELS = ROOT / "TestModels"


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, Any], outputs: list[str], **arguments: Any
) -> onnx.ModelProto:
    """A model whose inputs have the types given; those of its outputs are inferred."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_value_info(name, kind) for name, kind in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        **arguments,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)])


def tensor(number: int, shape: list[Any] | None = None) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(number, shape)


def long_model() -> onnx.ModelProto:
    """A model that takes a while: 100 products of matrices that grow with the input."""
    nodes = [helper.make_node("MatMul", [f"x{i}" if i else "x", "x"], [f"x{i + 1}"]) for i in range(100)]
    return model_of(nodes, {"x": tensor(TensorProto.FLOAT, ["n", "n"])}, ["x100"])
