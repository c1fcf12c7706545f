#!/usr/bin/env python3
"""Runs every model of TestModels/ on its stored inputs through `apus run` and compares with the stored outputs.

Each data set is one test, once with passes and once without. Floats must be within rtol 1e-3 and atol 1e-4, or within
the tolerance that is stored with the model; everything else must be equal. A model without data is a failure. Ends
with the line `N passed, N failed, N skipped`. The exit status is 0 only if nothing failed. Run it with the python that
`tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from model_values import compare, flatten, read_value

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}
SECONDS = 300  # the longest one run may take
MODES: dict[str, list[str]] = {"optimized": [], "unoptimized": ["--no-optimize"]}


def number(path: Path) -> int:
    """The number that a name ends with."""
    return int(re.findall(r"\d+", path.stem)[-1])


def input_files(graph: onnx.GraphProto, folder: Path) -> Iterator[tuple[str, Path]]:
    """The stored inputs by name: those without an initializer in the graph's order, then those that name themselves."""
    defaults = {tensor.name for tensor in graph.initializer}
    required = [info.name for info in graph.input if info.name not in defaults]
    for index, file in enumerate(sorted(folder.glob("input_*.pb"), key=number)):
        named = index >= len(required)
        yield (onnx.TensorProto.FromString(file.read_bytes()).name if named else required[index]), file


def run(apus: Path, path: Path, graph: onnx.GraphProto, folder: Path, flags: list[str]) -> dict[str, np.ndarray]:
    """The outputs of one `apus run`, by key of its .npz."""
    with tempfile.TemporaryDirectory(prefix="apus-models-") as place:
        output = Path(place) / "out.npz"
        command = [str(apus), "run", str(path), "--output", str(output), *flags]
        for name, file in input_files(graph, folder):
            command += ["--input", f"{name}={file}"]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        if finished.returncode != 0:
            message = (finished.stderr or finished.stdout).strip() or "no message"
            raise RuntimeError(f"exit status {finished.returncode}: " + "\n".join(message.splitlines()[:4]))
        with np.load(output) as file:
            return {key: file[key] for key in file.files}


def failure(apus: Path, path: Path, graph: onnx.GraphProto, folder: Path, flags: list[str]) -> str:
    """Why a data set fails; empty if it passes."""
    stored = path.parent / "data" / path.stem / "tolerance.json"
    tolerance = json.loads(stored.read_text()) if stored.exists() else TOLERANCE
    expected: dict[str, np.ndarray] = {}
    for index, info in enumerate(graph.output):
        expected |= flatten(info.name, read_value(folder / f"output_{index}.pb", info))
    try:
        found = run(apus, path, graph, folder, flags)
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    difference = compare(found, expected, tolerance["rtol"], tolerance["atol"])
    return "" if difference.within else f"{difference.reason} (by {difference.absolute:.3g})"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--apus", type=Path, default=ROOT / ".build/release/apus", help="the program (default: %(default)s)"
    )
    parser.add_argument("--filter", default="", metavar="REGEX", help="only models whose name matches")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    passed = failed = skipped = 0
    for path in sorted((ROOT / "TestModels").glob("*.onnx")):
        if not re.search(arguments.filter, path.stem):
            continue
        folders = sorted((path.parent / "data" / path.stem).glob("test_data_set_*"), key=number)
        if not folders:
            failed += 1
            print(f"{path.stem}: no data")
        graph = onnx.load(path, load_external_data=False).graph
        for folder in folders:
            for mode, flags in MODES.items():
                reason = failure(arguments.apus, path, graph, folder, flags)
                passed, failed = passed + (not reason), failed + bool(reason)
                if reason:
                    print(f"{path.stem}, data set {number(folder)}, {mode}: {reason}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
