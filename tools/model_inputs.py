"""Seeded inputs for a model: what to feed each input and at which sizes.

A model NAME.onnx may have a NAME.inputs.json beside it, the written form of `ModelSpec`:

    {"shapes": [{"batch": 1, "sequence": 16}, ...],       bindings of the symbolic dimensions, one for each trial
     "bench": {"batch": 1, "sequence": 128},              the binding that timings use
     "inputs": {"input_ids": {"kind": "integers", "low": 0, "high": 30522}, ...}}

Without one, `default_spec` makes a cautious guess from the declared names, types and dimensions.
"""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import onnx

Binding = dict[str, int]
Feeds = dict[str, np.ndarray]

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}


@dataclass(frozen=True)
class InputSpec:
    """How the elements of one input are drawn.

    kind: normal (mean `low`, deviation `high`), uniform (in [low, high)), integers (in [low, high)), mask (a run of
    ones, then at most a quarter zeros along the last axis), ones, choice (of `values`).
    """

    kind: str = "normal"
    low: float = 0.0
    high: float = 1.0
    values: tuple[float | int | str, ...] = ()


@dataclass
class ModelSpec:
    """The inputs of one model, by name, and the sizes at which it is tried."""

    inputs: dict[str, InputSpec] = field(default_factory=dict)
    shapes: list[Binding] = field(default_factory=lambda: [{}])
    bench: Binding = field(default_factory=dict)

    def write(self, model: Path) -> None:
        """Writes the sidecar of `model`, leaving out what stands at its default."""
        default = asdict(InputSpec())
        inputs = {
            name: {key: value for key, value in asdict(spec).items() if key == "kind" or value != default[key]}
            for name, spec in self.inputs.items()
        }
        text = json.dumps({"shapes": self.shapes, "bench": self.bench, "inputs": inputs}, indent=1)
        sidecar(model).write_text(text + "\n")


def sidecar(model: Path) -> Path:
    return model.with_suffix(".inputs.json")


def read_spec(model: Path) -> ModelSpec:
    """The sidecar of a model, or a guess where there is none."""
    if not sidecar(model).exists():
        return default_spec(model)
    raw = json.loads(sidecar(model).read_text())
    inputs = {
        name: InputSpec(**{**fields, "values": tuple(fields.get("values", ()))})
        for name, fields in raw["inputs"].items()
    }
    return ModelSpec(inputs, raw["shapes"], raw["bench"])


def graph_inputs(model: Path) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller must feed: those without an initializer."""
    graph = onnx.load(model, load_external_data=False).graph
    initializers = {tensor.name for tensor in graph.initializer}
    return [info for info in graph.input if info.name not in initializers]


def guess_input(info: onnx.ValueInfoProto) -> InputSpec:
    """A cautious reading of an input's name and type."""
    kind = info.type.tensor_type.elem_type
    if "mask" in info.name:
        return InputSpec("mask")
    if kind == onnx.TensorProto.STRING:
        return InputSpec("choice", values=("a", "b", "c"))
    if kind == onnx.TensorProto.BOOL:
        return InputSpec("integers", 0, 2)
    if kind in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16):
        return InputSpec("normal")
    return InputSpec("integers", 0, 2 if "type" in info.name else 100)


def dimension_text(dim: onnx.TensorShapeProto.Dimension, axis: int) -> str:
    """A dimension as an expression; one without a name is "batch" in front and 1 elsewhere."""
    if dim.HasField("dim_value"):
        return str(dim.dim_value)
    return dim.dim_param or ("batch" if axis == 0 else "1")


def default_spec(model: Path) -> ModelSpec:
    """Every free symbol at 1, then 2, then 3; one trial only where nothing is free."""
    infos = graph_inputs(model)
    dimensions = [
        dimension_text(dim, axis) for info in infos for axis, dim in enumerate(info.type.tensor_type.shape.dim)
    ]
    symbols = sorted({text for text in dimensions if text.isidentifier()})
    shapes = [dict.fromkeys(symbols, size) for size in (1, 2, 3)] if symbols else [{}]
    return ModelSpec({info.name: guess_input(info) for info in infos}, shapes, shapes[0])


def evaluate_dimension(text: str, binding: Mapping[str, int]) -> int:
    """The value of a symbolic dimension such as "batch" or "past + 2*sequence"; an unbound symbol counts 1."""

    def value(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int(number)):
                return number
            case ast.Name(id=name):
                return binding.get(name, 1)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](value(left), value(right))
        raise ValueError(f"cannot evaluate the dimension {text!r}")

    try:
        return value(ast.parse(text, mode="eval").body)
    except SyntaxError:
        return binding.get(text, 1)


def input_shape(info: onnx.ValueInfoProto, binding: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of one input under a binding of the symbols."""
    return tuple(
        evaluate_dimension(dimension_text(dim, axis), binding)
        for axis, dim in enumerate(info.type.tensor_type.shape.dim)
    )


def draw(spec: InputSpec, shape: tuple[int, ...], dtype: np.dtype, random: np.random.Generator) -> np.ndarray:
    """One input's elements."""
    match spec.kind:
        case "normal":
            return np.asarray(random.normal(spec.low, spec.high, shape)).astype(dtype)
        case "uniform":
            return np.asarray(random.uniform(spec.low, spec.high, shape)).astype(dtype)
        case "integers":
            return np.asarray(random.integers(int(spec.low), int(spec.high), shape)).astype(dtype)
        case "ones":
            return np.ones(shape, dtype)
        case "mask":
            length = shape[-1] if shape else 1
            kept = length - random.integers(0, length // 4 + 1, (*shape[:-1], 1))
            return (np.arange(length) < kept).astype(dtype)
        case "choice":
            values = np.asarray(spec.values, dtype=dtype)
            return values[random.integers(0, len(values), shape)]
    raise ValueError(f"unknown kind of input {spec.kind!r}")


def make_feeds(model: Path, spec: ModelSpec, binding: Mapping[str, int], seed: int = 0) -> Feeds:
    """Inputs for one trial of a model; the same arguments give the same bits."""
    random = np.random.default_rng(seed)
    feeds: Feeds = {}
    for info in graph_inputs(model):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        drawn = spec.inputs.get(info.name) or guess_input(info)
        feeds[info.name] = draw(drawn, input_shape(info, binding), np.dtype(dtype), random)
    return feeds
