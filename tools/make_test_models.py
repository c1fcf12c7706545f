#!/usr/bin/env python3
"""Makes the models of TestModels/ again, with their stored inputs and outputs.

Every model is checked by onnx's checker and, where both can run it, by onnxruntime and by onnx's reference
evaluator, which must agree. TestModels/README.md describes the layout. Run it with the python that
`tools/python-env export` prints; without torch and scikit-learn, name families that need neither.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

from onnx_backend_tests import value_to_bytes
from test_models import FAMILIES, Feeds, TestModel, all_models

ROOT = Path(__file__).resolve().parent.parent


def run_onnxruntime(path: Path, feeds: Feeds) -> list[Any]:
    """Outputs as the graph is written: without onnxruntime's rewriting."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def run_reference(path: Path, feeds: Feeds) -> list[Any]:
    model = onnx.load(path)
    for initializer in model.graph.initializer:  # an input that is fed stands before its initializer
        if initializer.name in feeds:
            initializer.CopyFrom(onnx.numpy_helper.from_array(feeds[initializer.name], initializer.name))
    return ReferenceEvaluator(model).run(None, feeds)


def same(one: Any, other: Any, rtol: float, atol: float) -> bool:
    """Whether two output values agree: type, shape and elements, through sequences, maps and optionals."""
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b, rtol, atol) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key], rtol, atol) for key in one)
    if one is None or other is None:
        return one is other
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "OUS":
        return one.astype(str).tolist() == other.astype(str).tolist()
    if one.dtype.name == "bfloat16":
        rtol = max(rtol, 2**-6)
    return np.allclose(one.astype(np.float64), other.astype(np.float64), rtol, atol, equal_nan=True)


RUNNERS = {"onnxruntime": run_onnxruntime, "onnx": run_reference}


def reference_outputs(model: TestModel, path: Path, feeds: Feeds) -> tuple[list[Any], str]:
    """Outputs of the model's reference, and a word on what the other implementation says."""
    if model.compute:
        return model.compute(feeds), "no implementation has its operators"
    outputs = RUNNERS[model.reference](path, feeds)
    if model.alone:
        return outputs, model.alone
    other = next(name for name in RUNNERS if name != model.reference)
    try:
        found = RUNNERS[other](path, feeds)
    except Exception as error:  # the other implementation lacks an operator or type: reported, not hidden
        return outputs, f"{other} cannot run it ({str(error).splitlines()[0][:90]})"
    rtol, atol = model.tolerance or (1e-3, 1e-6)
    if not all(same(a, b, rtol, atol) for a, b in zip(outputs, found, strict=True)):
        raise ValueError(f"{model.name}: {model.reference} and {other} disagree\n{outputs}\n{found}")
    return outputs, f"{other} agrees"


def dictionary_rows(value: Any) -> bytes:
    """A sequence of maps (what ZipMap makes) as a SequenceProto; numpy_helper stops at maps of scalars."""
    sequence = onnx.SequenceProto(elem_type=onnx.SequenceProto.MAP)
    for row in value:
        keys = np.array(list(row), dtype=object if isinstance(next(iter(row)), str) else np.int64)
        entry = sequence.map_values.add()
        entry.key_type = onnx.helper.np_dtype_to_tensor_dtype(keys.dtype)
        if keys.dtype == object:
            entry.string_keys.extend(key.encode() for key in keys)
        else:
            entry.keys.extend(int(key) for key in keys)
        entry.values.elem_type = onnx.SequenceProto.TENSOR
        for number in row.values():
            entry.values.tensor_values.append(onnx.numpy_helper.from_array(np.asarray(number, dtype=np.float32)))
    return sequence.SerializeToString()


def write_value(path: Path, value: Any, info: onnx.ValueInfoProto) -> None:
    rows = isinstance(value, list) and value and isinstance(value[0], dict)
    path.write_bytes(dictionary_rows(value) if rows else value_to_bytes(value, info))


def write_data_set(folder: Path, proto: onnx.ModelProto, feeds: Feeds, outputs: Sequence[Any]) -> None:
    """Stores one data set; inputs in the order of the graph's, those not fed left out."""
    folder.mkdir(parents=True)
    fed = [info for info in proto.graph.input if info.name in feeds]
    for index, info in enumerate(fed):
        write_value(folder / f"input_{index}.pb", feeds[info.name], info)
    for index, (info, value) in enumerate(zip(proto.graph.output, outputs, strict=True)):
        write_value(folder / f"output_{index}.pb", value, info)


def write_model(model: TestModel, folder: Path) -> str:
    """Writes one model with its data and returns a line about it."""
    path = folder / f"{model.name}.onnx"
    data = folder / "data" / model.name
    shutil.rmtree(data, ignore_errors=True)
    if model.external:
        (folder / model.external).unlink(missing_ok=True)
        onnx.save(model.proto, path, save_as_external_data=True, location=model.external, size_threshold=0)
    else:
        path.write_bytes(model.proto.SerializeToString(deterministic=True))
    # onnx's shape inference does not know sparse initializers
    onnx.checker.check_model(str(path), full_check=not model.proto.graph.sparse_initializer)
    for name, content in model.files.items():
        (folder / name).write_bytes(content)
    remarks = []
    for index, feeds in enumerate(model.cases):
        outputs, remark = reference_outputs(model, path, feeds)
        write_data_set(data / f"test_data_set_{index}", model.proto, feeds, outputs)
        remarks.append(remark)
    if model.tolerance:
        rtol, atol = model.tolerance
        (data / "tolerance.json").write_text(json.dumps({"rtol": rtol, "atol": atol}) + "\n")
    said = "; ".join(dict.fromkeys(remarks))
    source = "its script" if model.compute else model.reference
    return f"{model.name}: {path.stat().st_size} bytes, {len(model.cases)} data sets from {source}; {said}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "TestModels", help="folder (default: %(default)s)")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=FAMILIES, help="only these families")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for model in all_models(tuple(arguments.family)):
        print(write_model(model, arguments.output), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
