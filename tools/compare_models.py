#!/usr/bin/env python3
"""Runs models in apus and in onnxruntime on the same inputs and prints how far the outputs lie apart.

Models: the exported ones (--models; see tools/export_models.py), TestModels/ with their stored inputs, and --extra.
Each is tried at every size of its NAME.inputs.json (three for a dynamic model) and at each number of threads; the bits
must not depend on the threads. Where onnxruntime cannot run a test model, its stored outputs stand in. The exit status
is 0 only if every trial is within rtol 1e-3 and atol 1e-4 (or the tolerance stored with a test model, where it is
wider) and the bits agree. Run it with the python that `tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from model_inputs import Feeds, make_feeds, read_spec
from model_values import Difference, compare, flatten, read_value, same_bits, write_input
from real_inputs import REAL_INPUTS

ROOT = Path(__file__).resolve().parent.parent
RTOL, ATOL = 1e-3, 1e-4
Outputs = dict[str, np.ndarray]


@dataclass
class Trial:
    """One set of inputs of a model, and where its outputs are stored, if they are."""

    label: str
    feeds: Feeds
    stored: Path | None = None


@dataclass
class Row:
    """One line of the table."""

    model: str
    trial: str
    threads: int
    reference: str
    absolute: float
    relative: float
    within: bool
    same_bits: bool | None
    remark: str

    @property
    def passed(self) -> bool:
        return self.within and self.same_bits is not False


def find_models(places: list[Path]) -> list[Path]:
    """Model files, or those of a folder."""
    models = []
    for place in places:
        if place.is_dir():
            models += sorted(place.glob("*.onnx"))
        elif place.exists():
            models.append(place)
        else:
            print(f"{place} is absent: skipped", file=sys.stderr)
    return models


def stored_trials(path: Path) -> Iterator[Trial]:
    """The data sets of a test model."""
    infos = {info.name: info for info in onnx.load(path, load_external_data=False).graph.input}
    required = [info.name for info in onnx_inputs(path)]
    for folder in sorted((path.parent / "data" / path.stem).glob("test_data_set_*")):
        feeds: Feeds = {}
        for index, file in enumerate(sorted(folder.glob("input_*.pb"), key=number)):
            name = required[index] if index < len(required) else stored_name(file)
            feeds[name] = read_value(file, infos[name])
        yield Trial(f"stored {folder.name[14:]}", feeds, folder)


def onnx_inputs(path: Path) -> list[onnx.ValueInfoProto]:
    """The inputs that must be fed."""
    graph = onnx.load(path, load_external_data=False).graph
    defaults = {tensor.name for tensor in graph.initializer}
    return [info for info in graph.input if info.name not in defaults]


def stored_name(file: Path) -> str:
    return onnx.TensorProto.FromString(file.read_bytes()).name


def number(path: Path) -> int:
    return int(re.findall(r"\d+", path.stem)[-1])


def trials(path: Path, seed: int) -> list[Trial]:
    """What to feed a model: stored inputs, real ones, or seeded random ones, in this order of preference."""
    if (path.parent / "data" / path.stem).is_dir():
        return list(stored_trials(path))
    if path.name in REAL_INPUTS:
        return [Trial(label, feeds) for label, feeds in REAL_INPUTS[path.name](path.parent)]
    spec = read_spec(path)
    return [
        Trial(
            " ".join(f"{key}={size}" for key, size in binding.items()) or "static",
            make_feeds(path, spec, binding, seed),
        )
        for binding in spec.shapes
    ]


def run_onnxruntime(path: Path, todo: list[Trial]) -> list[list[Any] | Exception]:
    """Outputs of every trial in one session, or why there are none."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return [error] * len(todo)
    results: list[list[Any] | Exception] = []
    for trial in todo:
        try:
            results.append(session.run(None, trial.feeds))
        except Exception as error:
            results.append(error)
    return results


def reference(path: Path, trial: Trial, result: list[Any] | Exception) -> tuple[str, Outputs]:
    """The outputs to compare with, by key, and whose they are."""
    infos = onnx.load(path, load_external_data=False).graph.output
    source = "onnxruntime"
    if isinstance(result, Exception):
        if trial.stored is None:
            raise result
        source = "stored"
        result = [read_value(trial.stored / f"output_{index}.pb", info) for index, info in enumerate(infos)]
    keyed = {}
    for info, value in zip(infos, result, strict=True):
        keyed |= flatten(info.name, value)
    return source, keyed


def run_apus(apus: Path, path: Path, feeds: Feeds, threads: int) -> Outputs:
    """The outputs of one `apus run`, by key of its .npz."""
    infos = {info.name: info for info in onnx.load(path, load_external_data=False).graph.input}
    with tempfile.TemporaryDirectory(prefix="apus-compare-") as name:
        folder = Path(name)
        command = [str(apus), "run", str(path), "--threads", str(threads), "--output", str(folder / "out.npz")]
        for index, (key, value) in enumerate(feeds.items()):
            command += ["--input", f"{key}={write_input(folder, index, value, infos[key])}"]
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode != 0:
            lines = (finished.stderr or finished.stdout).strip().splitlines() or ["no message"]
            raise RuntimeError(f"exit status {finished.returncode}: {lines[0]}")
        with np.load(folder / "out.npz") as file:
            return {key: file[key] for key in file.files}


def tolerance(path: Path) -> tuple[float, float]:
    """The project's tolerance, or the one stored with the model where it is wider."""
    file = path.parent / "data" / path.stem / "tolerance.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    return max(RTOL, stored.get("rtol", 0)), max(ATOL, stored.get("atol", 0))


def compare_trial(
    apus: Path, path: Path, trial: Trial, result: list[Any] | Exception, threads: list[int]
) -> Iterator[Row]:
    """One row for each number of threads."""
    first: Outputs | None = None
    for count in threads:
        source, bits, difference = "none", None, Difference()
        try:
            source, expected = reference(path, trial, result)
            found = run_apus(apus, path, trial.feeds, count)
            difference = compare(found, expected, *tolerance(path))
            bits = same_bits(first, found) if first is not None else None
            first = first if first is not None else found
        except Exception as error:
            difference.fail(str(error).splitlines()[0][:160])
        yield Row(
            path.stem,
            trial.label,
            count,
            source,
            difference.absolute,
            difference.relative,
            difference.within,
            bits,
            difference.reason,
        )


HEADER = f"{'model':24} {'trial':32} {'threads':>7} {'absolute':>10} {'relative':>10}  within  bits"


def line(row: Row) -> str:
    bits = {None: "", True: "same", False: "DIFFER"}[row.same_bits]
    remark = row.remark or ("" if row.reference == "onnxruntime" else f"against the {row.reference} outputs")
    return (
        f"{row.model:24} {row.trial[:32]:32} {row.threads:7} {row.absolute:10.2e} {row.relative:10.2e}  "
        f"{'yes' if row.within else 'NO':6}  {bits:6} {remark}"
    ).rstrip()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--apus", type=Path, default=ROOT / ".build/release/apus", help="the program (default: %(default)s)"
    )
    parser.add_argument(
        "--models",
        type=Path,
        nargs="*",
        default=[ROOT / ".cache/models", ROOT / "TestModels"],
        metavar="PLACE",
        help="model files or folders of them (default: .cache/models and TestModels)",
    )
    parser.add_argument(
        "--extra",
        type=Path,
        nargs="*",
        default=[ROOT.parent / "shared/models"],
        metavar="PLACE",
        help="further ones (default: ../shared/models, skipped where absent)",
    )
    parser.add_argument("--filter", default="", metavar="REGEX", help="only models whose name matches")
    parser.add_argument("--threads", default="1,2", help="comma-separated (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    arguments = parser.parse_args()
    arguments.threads = [int(count) for count in arguments.threads.split(",")]
    return arguments


def main() -> int:
    arguments = parse_arguments()
    models = [
        path for path in find_models(arguments.models + arguments.extra) if re.search(arguments.filter, path.stem)
    ]
    rows: list[Row] = []
    print(HEADER)
    for path in models:
        todo = trials(path, arguments.seed)
        for trial, result in zip(todo, run_onnxruntime(path, todo), strict=True):
            for row in compare_trial(arguments.apus, path, trial, result, arguments.threads):
                rows.append(row)
                print(line(row), flush=True)
    failed = sorted({row.model for row in rows if not row.passed})
    print(
        f"{len(models)} models, {len(rows)} runs, {sum(row.passed for row in rows)} within tolerance with the same bits"
    )
    if failed:
        print(f"failed: {', '.join(failed)}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0 if rows and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
