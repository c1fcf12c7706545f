"""Models made smaller: integers, weights of few bits, 16 bits, pruned, clustered. Imported when it is first used."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from ctypes import c_char_p
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from ._compressed import CompressedModel, Source, functions
from ._conversation import Conversation
from ._errors import InvalidArgument, NoSuchFile
from ._samples import Calibration, Samples
from ._session import InferenceSession

#: The default of `measure`, as the command has it.
_MEASURED = 8


def _names(patterns: str | Iterable[str] | None) -> list[str] | None:
    if patterns is None:
        return None
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _check_place(output: str | os.PathLike[str] | None, opset: int | None) -> None:
    """Says at once what would be said after the work: that the folder of the output is missing."""
    if output is None:
        if opset is not None:
            raise InvalidArgument("opset is that of the file to write; give output, or save(path, opset) the result")
    else:
        folder = Path(output).absolute().parent
        if not folder.is_dir():
            raise NoSuchFile(f"{os.fspath(output)} cannot be written: there is no folder {folder}")


def _settings(
    threads: int | None,
    dimensions: Mapping[str, int] | None,
    shapes: Mapping[str, Sequence[int]] | None,
    maximum_run_memory: int | None = None,
    map_files: bool = False,
) -> dict[str, Any]:
    return {
        "threads": threads,
        "optimize": True,
        "disabled_passes": (),
        "dimensions": dict(dimensions or {}),
        "shapes": dict(shapes or {}),
        "extra_outputs": (),
        "overridable_initializers": (),
        "maximum_run_memory": maximum_run_memory,
        "map_files": map_files,
    }


def quantize(
    model: str | os.PathLike[str] | bytes | Any,
    output: str | os.PathLike[str] | None = None,
    *,
    calibrate: Calibration | None = None,
    static: bool | None = None,
    dynamic: bool | None = None,
    weights: str | None = None,
    float16: bool | None = None,
    bfloat16: bool | None = None,
    activations: str | None = None,
    symmetric: bool | None = None,
    asymmetric_weights: bool | None = None,
    per_tensor: bool | None = None,
    range: str | None = None,
    percentile: float | None = None,
    target: str | None = None,
    format: str | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    equalize: bool | None = None,
    correct_bias: bool | None = None,
    adaround: bool | None = None,
    smooth: float | None = None,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    block: int | Literal["channel"] | None = None,
    method: str | None = None,
    weight_format: str | None = None,
    zero_points: bool | None = None,
    weight_type: Mapping[str, str] | None = None,
    tables: bool | None = None,
    minimum_elements: int | None = None,
    damping: float | None = None,
    act_order: bool | None = None,
    sweeps: int | None = None,
    accuracy_level: int | None = None,
    keep_io: bool | None = None,
    keep_sensitive: bool | None = None,
    keep: str | Iterable[str] | None = None,
    calibration: str | os.PathLike[str] | None = None,
    save_calibration: str | os.PathLike[str] | None = None,
    tensorrt_cache: str | os.PathLike[str] | None = None,
    target_sqnr: float | None = None,
    target_accuracy: float | None = None,
    evaluate: Callable[[InferenceSession], float] | None = None,
    rank: bool | None = None,
    measure: int | None = None,
    opset: int | None = None,
    external_data_folder: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    dimensions: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    maximum_run_memory: int | None = None,
    progress: Callable[[str, int, int | None], object] | None = None,
) -> CompressedModel:
    """Makes a model smaller and faster, and says what that costs. The options are those of `apus quantize`, by the same
    names; docs/quantization.md explains them, and what is not given has the command's default.

    >>> made = apus.quantize("resnet50.onnx", "resnet50-int8.onnx", calibrate=({"input": image} for image in images))
    >>> made = apus.quantize("bert.onnx", "bert-int8.onnx", dynamic=True)
    >>> made = apus.quantize("llama.onnx", "llama-int4.onnx", weights="int4", block=32, method="gptq", calibrate=texts)
    >>> made = apus.quantize("unet.onnx", "unet-f16.onnx", float16=True)
    >>> print(made.outputs[0]["sqnr"], made.session().run(None, feeds))

    model: a path, the bytes of a file, or an onnx.ModelProto. With `output` the result is written there, else it is in
    the object returned. If an error is raised, nothing was written but what `save_calibration` names.

    calibrate: samples, one at a time, each a dictionary of arrays by input, or the array alone for a single input: an
        iterable, an iterator, or a function that returns an iterator; a dictionary of arrays with many samples
        along their first axis, or such an array; the path of an .npz file, read piece by piece. Memory does not grow
        with their number. An iterator serves once, which is enough without `smooth` and `adaround`.
    static (with samples the default), dynamic: activations and weights as integers. Then `activations`, `symmetric`,
        `weights`, `asymmetric_weights`, `per_tensor`, `range`, `percentile`, `target`, `format`, `overrides`,
        `equalize`, `correct_bias`, `adaround`, `smooth`, `include`, `exclude`. overrides: {"conv1": {"low": 0}}.
    weights: "int8", "int4", "int2" … alone: weights in few bits. Then `block`, `method`, `weight_format`,
        `zero_points`, `weight_type`, `tables`, `minimum_elements`, `damping`, `act_order`, `sweeps`, `accuracy_level`,
        `include`, `exclude`.
    float16, bfloat16: 16 bits. Then `keep_io`, `keep_sensitive`, `keep`.
    calibration, save_calibration: files of what a calibration has seen; tensorrt_cache: a file of ranges for TensorRT.
    target_sqnr: decibels that every output must reach. target_accuracy: what `evaluate` must return, a function of an
        `InferenceSession` whose result is better the larger it is. The worst nodes stay in float until it holds.
    rank: whether the report says what each node costs alone; measure: the samples on which losses are measured.
    opset: the operator set to write. external_data_folder, threads, dimensions, shapes, maximum_run_memory: as for
        `InferenceSession`.
    progress: is called with what is being done, how much of it, and of how much.

    Exceptions of `calibrate`, `evaluate` and `progress` come through as they are.
    """
    if (evaluate is None) != (target_accuracy is None):
        raise InvalidArgument("target_accuracy and evaluate, which measures it, are given together")
    if measure is not None and (not isinstance(measure, Integral) or measure < 0):
        raise InvalidArgument(f"measure is {measure!r}; expected 0 or more samples")
    if static is False and calibrate is not None and not (dynamic or weights or float16 or bfloat16):
        raise InvalidArgument("samples alone ask for static, which is False; say what is to be made")
    options = {
        "static": static,
        "dynamic": dynamic,
        "weights": weights,
        "float16": float16,
        "bfloat16": bfloat16,
        "activations": activations,
        "symmetric": symmetric,
        "asymmetric_weights": asymmetric_weights,
        "per_tensor": per_tensor,
        "range": range,
        "percentile": percentile,
        "target": target,
        "format": format,
        "overrides": overrides,
        "equalize": equalize,
        "correct_bias": correct_bias,
        "adaround": adaround,
        "smooth": smooth,
        "include": _names(include),
        "exclude": _names(exclude),
        "block": 0 if block == "channel" else block,
        "method": method,
        "weight_format": weight_format,
        "zero_points": zero_points,
        "weight_type": None if weight_type is None else [list(pair) for pair in weight_type.items()],
        "tables": tables,
        "minimum_elements": minimum_elements,
        "damping": damping,
        "act_order": act_order,
        "sweeps": sweeps,
        "accuracy_level": accuracy_level,
        "keep_io": keep_io,
        "keep_sensitive": keep_sensitive,
        "keep": _names(keep),
        "calibration": calibration,
        "save_calibration": save_calibration,
        "tensorrt_cache": tensorrt_cache,
        "target_sqnr": target_sqnr,
        "target_accuracy": target_accuracy,
        "rank": rank,
        "measure": measure,
    }
    # Weights of models of 16 bits are read when the result is written.
    halves = bool(float16 or bfloat16)
    settings = _settings(threads, dimensions, shapes, maximum_run_memory, map_files=halves)
    _check_place(output, opset)
    source = Source(model, external_data_folder, settings)
    # What measures looks at one sample more, to see that it has enough.
    kept = (_MEASURED if measure is None else max(int(measure), 1)) + 1
    samples = None if calibrate is None else Samples(calibrate, source.inputs, kept)
    conversation = Conversation(source, samples, evaluate, progress)
    made = conversation.hold(lambda calls: source.make(functions().source_quantize, options, ctypes.byref(calls)))
    return _saved(made, output, opset)


def _saved(made: CompressedModel, output: str | os.PathLike[str] | None, opset: int | None) -> CompressedModel:
    if output is not None:
        made.save(output, opset)
    return made


def prune(
    model: str | os.PathLike[str] | bytes | Any,
    output: str | os.PathLike[str] | None = None,
    *,
    magnitude: float | None = None,
    pattern: str | None = None,
    structured: float | None = None,
    target_params: float | None = None,
    target_macs: float | None = None,
    all_layers: bool | None = None,
    norm: str | None = None,
    importance: Mapping[str, Any] | None = None,
    fractions: Mapping[str, float] | None = None,
    multiple: int | None = None,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    opset: int | None = None,
    external_data_folder: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    dimensions: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> CompressedModel:
    """Makes the smallest elements of weights 0, or takes whole channels away. The options are those of `apus prune`,
    which docs/compression.md explains; `all_layers` is its `--global`.

    >>> made = apus.prune("resnet50.onnx", "smaller.onnx", structured=0.3)
    >>> made.report["comparison"]["after"]["multiply_adds"]

    magnitude: the share of the elements that become 0. pattern: "2:4". structured: the share of the channels that go.
    target_params, target_macs: the share of the model that may stay, which chooses the fraction.
    importance: by weight or node a number for each output channel, in the place of `norm`. fractions: by pattern.
    """
    options = {
        "magnitude": magnitude,
        "pattern": pattern,
        "structured": structured,
        "target_params": target_params,
        "target_macs": target_macs,
        "global": all_layers,
        "norm": norm,
        "importance": importance,
        "fractions": fractions,
        "multiple": multiple,
        "include": _names(include),
        "exclude": _names(exclude),
    }
    _check_place(output, opset)
    source = Source(model, external_data_folder, _settings(threads, dimensions, shapes))
    return _saved(source.make(functions().source_prune, options), output, opset)


def cluster(
    model: str | os.PathLike[str] | bytes | Any,
    output: str | os.PathLike[str] | None = None,
    *,
    codebook: int,
    by_magnitude: bool | None = None,
    keep_zeros: bool | None = None,
    indices: bool | None = None,
    include: str | Iterable[str] | None = None,
    exclude: str | Iterable[str] | None = None,
    opset: int | None = None,
    external_data_folder: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    dimensions: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> CompressedModel:
    """Lets the elements of each weight share `codebook` values, so that the file packs well. The options are those of
    `apus cluster`, which docs/compression.md explains.

    >>> made = apus.cluster("resnet50.onnx", "clustered.onnx", codebook=32)
    >>> made.report["huffman_bytes"]
    """
    options = {
        "codebook": codebook,
        "by_magnitude": by_magnitude,
        "keep_zeros": keep_zeros,
        "indices": indices,
        "include": _names(include),
        "exclude": _names(exclude),
    }
    _check_place(output, opset)
    source = Source(model, external_data_folder, _settings(threads, dimensions, shapes))
    return _saved(source.make(functions().source_cluster, options), output, opset)


def sparsity(
    model: str | os.PathLike[str] | bytes | Any,
    *,
    external_data_folder: str | os.PathLike[str] | None = None,
    dimensions: Mapping[str, int] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Where the zeros of a model's weights lie: in all, by channel, and in the pattern 2:4.

    >>> apus.sparsity("pruned.onnx")["weights"][0]["zeros"]
    """
    source = Source(model, external_data_folder, _settings(None, dimensions, shapes))
    found = c_char_p()
    functions().source_sparsity(source.handle, ctypes.byref(found))
    assert found.value is not None
    report: dict[str, Any] = json.loads(found.value.decode())["sparsity"]
    return report
