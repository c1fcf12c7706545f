#!/usr/bin/env python3
"""Writes the ONNX backend test suite of the installed onnx package to disk.

Layout: OUTPUT/<kind>/<case>/model.onnx and test_data_set_<n>/{input,output}_<k>.pb, where each .pb is a TensorProto,
SequenceProto or OptionalProto after the declared type of that graph input or output. A case whose tolerance is not the
suite's default (rtol 1e-3, atol 1e-7) has a tolerance.json with "rtol" and "atol". onnx's own runner compares bfloat16
with rtol at least 2^-6; that holds for every case and is not repeated in the files.

Run it with the python that `tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")
DEFAULT_TOLERANCE = (1e-3, 1e-7)
# Cases of each kind in the pinned onnx 1.23.2; a different count means the pin and this tool no longer agree.
EXPECTED = {"node": 1884, "simple": 23, "pytorch-converted": 82, "pytorch-operator": 35, "light": 9}


def cases_of_kind(kind: str) -> list[TestCase]:
    """All cases of one kind, by name. onnx files its light models under the kind "real"."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators overflow and divide by zero on purpose
        if kind == "node":
            np.random.seed(0)  # most generators draw from numpy's global state
        cases = load_model_tests(kind="real" if kind == "light" else kind)
    return sorted(cases, key=lambda case: case.name)


def value_to_bytes(value: Any, info: onnx.ValueInfoProto) -> bytes:
    """Serializes a test value as the proto that the declared type of its graph input or output asks for."""
    declared = info.type.WhichOneof("value")
    if isinstance(value, onnx.TensorProto):
        proto = value
    elif declared == "sequence_type":
        proto = numpy_helper.from_list(value, info.name)
    elif declared == "optional_type":
        proto = numpy_helper.from_optional(value, info.name)
    elif declared == "tensor_type":
        proto = numpy_helper.from_array(np.asarray(value), info.name)
    else:
        raise ValueError(f"{info.name}: no file form for a value of type {declared}")
    return proto.SerializeToString()


def write_data_set(folder: Path, model: onnx.ModelProto, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Writes one data set: inputs and outputs stand in the order of the graph's own."""
    folder.mkdir()
    for role, values, infos in (
        ("input", inputs, model.graph.input),
        ("output", outputs, model.graph.output),
    ):
        for index, (value, info) in enumerate(zip(values, infos, strict=True)):
            (folder / f"{role}_{index}.pb").write_bytes(value_to_bytes(value, info))


def write_generated(case: TestCase, folder: Path) -> None:
    """A case that the package makes in memory."""
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    for index, (inputs, outputs) in enumerate(case.data_sets):
        write_data_set(folder / f"test_data_set_{index}", case.model, inputs, outputs)


def write_light(case: TestCase, folder: Path) -> None:
    """A light model: a ramp from 0 to 1 in, the outputs stored in the package out, as onnx's runner has it."""
    source = Path(onnx.__file__).parent.parent / case.url
    shutil.copyfile(source, folder / "model.onnx")
    graph = onnx.load(source).graph
    initializers = {tensor.name for tensor in graph.initializer}
    data_set = folder / "test_data_set_0"
    data_set.mkdir()
    inputs = [info for info in graph.input if info.name not in initializers]
    for index, info in enumerate(inputs):
        value = Runner.generate_dummy_data(info, seed=0, name=case.model_name, random=False)
        (data_set / f"input_{index}.pb").write_bytes(numpy_helper.from_array(value, info.name).SerializeToString())
    for index in range(len(graph.output)):
        shutil.copyfile(source.with_name(f"{source.stem}_output_{index}.pb"), data_set / f"output_{index}.pb")


def write_case(case: TestCase, folder: Path) -> None:
    """Writes one case of any kind in place of whatever stands at `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    if case.model is None and case.model_dir is not None:
        shutil.copytree(case.model_dir, folder, ignore=shutil.ignore_patterns("data.json", "__pycache__", "*.py"))
    else:
        folder.mkdir(parents=True)
        if case.model is not None:
            write_generated(case, folder)
        else:
            write_light(case, folder)
    if (case.rtol, case.atol) != DEFAULT_TOLERANCE:
        (folder / "tolerance.json").write_text(json.dumps({"rtol": case.rtol, "atol": case.atol}) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write to; made when absent")
    parser.add_argument("--kind", default=",".join(KINDS), help="comma-separated kinds (default: %(default)s)")
    parser.add_argument("--filter", default="", help="only cases whose name matches this regular expression")
    parser.add_argument("--list", action="store_true", help="print kind/case and write nothing")
    arguments = parser.parse_args()
    arguments.kinds = arguments.kind.split(",")
    if unknown := sorted(set(arguments.kinds) - set(KINDS)):
        parser.error(f"unknown kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    wanted = re.compile(arguments.filter)
    total = 0
    complete = True
    for kind in arguments.kinds:
        cases = cases_of_kind(kind)
        if len(cases) != EXPECTED[kind]:
            complete = False
            print(f"{kind}: {len(cases)} cases, expected {EXPECTED[kind]}", file=sys.stderr)
        chosen = [case for case in cases if wanted.search(case.name)]
        for case in chosen:
            if arguments.list:
                print(f"{kind}/{case.name}")
            else:
                write_case(case, arguments.output / kind / case.name)
        total += len(chosen)
        if not arguments.list:
            print(f"{kind}: {len(chosen)}")
    if not arguments.list:
        print(f"total: {total}")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
