"""The small models of TestModels/, one file a family.

Each family has a function `models()` that yields `TestModel`s; `FAMILIES` lists the families. Only `digits` needs torch
and only `classical` needs scikit-learn; the rest are built by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import onnx

FAMILIES = (
    "digits",
    "classical",
    "recurrent",
    "detection",
    "control_flow",
    "text",
    "containers",
    "storage",
    "functions",
    "precision",
    "shapes",
    "training",
)

Feeds = dict[str, Any]


@dataclass
class TestModel:
    """One model, what to feed it, and how its stored outputs are made.

    cases: the inputs of each data set, by name. A string input is an array of objects.
    reference: "onnxruntime" or "onnx" (the reference evaluator), whichever computes the stored outputs.
    compute: what computes the stored outputs where no implementation has the operators.
    alone: why the other implementation is not asked to agree.
    tolerance: rtol and atol, where the suite's 1e-3 and 1e-7 do not fit.
    external: the file name for weights kept beside the model.
    """

    name: str
    proto: onnx.ModelProto
    cases: list[Feeds]
    reference: str = "onnxruntime"
    compute: Callable[[Feeds], list[Any]] | None = None
    alone: str = ""
    tolerance: tuple[float, float] | None = None
    external: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)


def parse(text: str, **initializers: np.ndarray | onnx.TensorProto) -> onnx.ModelProto:
    """A model from ONNX's textual form, with initializers added to its graph."""
    model = onnx.parser.parse_model(text)
    model.producer_name = "Apus test models"
    for name, value in initializers.items():
        tensor = value if isinstance(value, onnx.TensorProto) else onnx.numpy_helper.from_array(value)
        tensor.name = name
        model.graph.initializer.append(tensor)
    return model


def strings(*values: str) -> np.ndarray:
    """A one-dimensional string tensor."""
    return np.array(values, dtype=object)


def all_models(families: tuple[str, ...] = FAMILIES) -> Iterator[TestModel]:
    for family in families:
        yield from import_module(f"test_models.{family}").models()
