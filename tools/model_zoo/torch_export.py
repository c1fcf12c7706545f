"""What the torch families share: seeding, batch norm statistics, export, and the check against torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from model_inputs import ModelSpec, make_feeds

OPSET = 20


def seed(number: int = 0) -> None:
    torch.manual_seed(number)
    torch.set_num_threads(1)  # the order of float sums, and so the weights that calibration sets, stay the same


def calibrate_batch_norm(module: torch.nn.Module, *inputs: torch.Tensor) -> torch.nn.Module:
    """Gives random weights sane activations.

    Sets every batch norm's statistics to what `inputs` produce, then moves statistics, scales and offsets a little, as
    training would, so that no one of them is an identity.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    module.train()
    with torch.no_grad():
        module(*inputs)
        for norm in norms:
            deviation = norm.running_var.sqrt()
            norm.running_mean += 0.1 * deviation * torch.randn_like(deviation)
            norm.running_var *= torch.empty_like(deviation).uniform_(0.8, 1.25)
            norm.weight.uniform_(0.8, 1.2)
            norm.bias.normal_(0, 0.1)
    return module.eval()


def export(
    module: torch.nn.Module,
    arguments: tuple[Any, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: Any = None,
) -> None:
    """Writes `module` through the dynamo exporter at opset 20, weights inline."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            arguments,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=dynamic_shapes,
            external_data=False,
            verbose=False,
        )
    program.save(str(path))


def rename_dimension(path: Path, value: str, axis: int, name: str) -> None:
    """Gives the symbol of one dimension of a graph input the text `name`, wherever it stands alone."""
    model = onnx.load(path)
    graph = model.graph
    old = next(info for info in graph.input if info.name == value).type.tensor_type.shape.dim[axis].dim_param
    for info in (*graph.input, *graph.output, *graph.value_info):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param == old:
                dim.dim_param = name
    onnx.save(model, path)


def export_legacy(
    module: torch.nn.Module,
    arguments: tuple[Any, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
    opset: int = 13,
) -> None:
    """Writes `module` through the TorchScript exporter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            arguments,
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=dynamic_axes,
        )


def flatten(value: Any) -> list[torch.Tensor]:
    """The tensors of nested tuples and lists, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in flatten(part)]


def check(module: torch.nn.Module, path: Path, spec: ModelSpec, exact: bool = False) -> ModelSpec:
    """Holds the written model against torch at every size of `spec`, and returns `spec`.

    Also asks for life: finite outputs that depend on the inputs. `exact` is for models whose outputs are choices.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for binding in spec.shapes:
        results = []
        for number in (0, 1):
            feeds = make_feeds(path, spec, binding, number)
            with torch.no_grad():
                expected = flatten(module(*(torch.from_numpy(value) for value in feeds.values())))
            found = session.run(None, feeds)
            for name, one, other in zip((o.name for o in session.get_outputs()), found, expected, strict=True):
                tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 2e-3, "atol": 5e-4}
                np.testing.assert_allclose(one, other.numpy(), err_msg=f"{path.name} {binding} {name}", **tolerance)
                if not np.isfinite(one).all():
                    raise ValueError(f"{path.name} {binding}: {name} is not finite")
            results.append(found[0])
        if results[0].shape == results[1].shape and np.allclose(results[0], results[1], rtol=1e-3, atol=1e-5):
            raise ValueError(f"{path.name} {binding}: the output does not depend on the input")
    return spec
