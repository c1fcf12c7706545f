#!/usr/bin/env python3
"""Runs the models of other frameworks in Tests/ApusFormatsTests/Fixtures and compares with the frameworks' own outputs.

A fixture is a model and a .npz beside it: `in/NAME` and `out/NAME` for each input and output, `steps` where integers
may be some steps off, `tolerance` where floats may be off by more than 1e-5, and `shapes` where the model is to be
loaded with the shapes of these inputs. Needs NumPy and the program `apus` (--apus PATH), no framework.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "Tests" / "ApusFormatsTests" / "Fixtures"
# Of the largest magnitude of an output.
RELATIVE = 1e-5


def run(
    apus: str, model: Path, inputs: dict[str, np.ndarray], names: list[str], folder: Path,
    says_shapes: bool = False,
) -> dict[str, np.ndarray]:
    """The outputs of `model`, by name; RuntimeError with what the program said if it failed."""
    command = [apus, "run", str(model), "-o", str(folder / "out.npz")]
    for index, (name, value) in enumerate(inputs.items()):
        np.save(folder / f"{index}.npy", value)
        command += ["--input", f"{name}={folder / f'{index}.npy'}"]
        if says_shapes:
            command += ["--shape", f"{name}={'x'.join(map(str, value.shape))}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    with np.load(folder / "out.npz") as archive:
        found = {name: archive[name] for name in archive.files}
    missing = [name for name in names if name not in found]
    if missing:
        raise RuntimeError(f"outputs {missing} are missing; there are {list(found)}")
    return found


def difference(
    expected: np.ndarray, found: np.ndarray, steps: int = 0, tolerance: float = RELATIVE
) -> tuple[float, str]:
    """How far `found` is off, relative to the largest magnitude or for integers in steps, and what is wrong then."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf"), f"{expected.dtype}{expected.shape} was expected, {found.dtype}{found.shape} found"
    if expected.size == 0:
        return 0.0, ""
    if expected.dtype.kind != "f":
        off = np.abs(expected.astype(np.int64) - found.astype(np.int64))
        most = int(off.max())
        return most, "" if most <= steps else f"{most} steps off, {np.mean(off == 0):.1%} equal"
    unequal = ~((expected == found) | (np.isnan(expected) & np.isnan(found)))
    if not unequal.any():
        return 0.0, ""
    finite = np.isfinite(expected)
    scale = max(float(np.abs(expected[finite]).max()), 1e-6) if finite.any() else 1.0
    off = float(np.abs(expected.astype(np.float64) - found.astype(np.float64))[unequal].max()) / scale
    return off, "" if off <= tolerance else f"relative error {off:.2e}"


def check(apus: str, model: Path) -> tuple[float, list[str]]:
    """The largest error of a fixture's outputs, and its faults."""
    with np.load(model.with_suffix(".npz")) as archive:
        arrays = {name: archive[name] for name in archive.files}
    inputs = {name[3:]: value for name, value in arrays.items() if name.startswith("in/")}
    outputs = {name[4:]: value for name, value in arrays.items() if name.startswith("out/")}
    steps, tolerance = int(arrays.get("steps", 0)), float(arrays.get("tolerance", 0)) or RELATIVE
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = run(apus, model, inputs, list(outputs), Path(folder), "shapes" in arrays)
        except RuntimeError as error:
            return float("inf"), [str(error)]
    faults, worst = [], 0.0
    for name, expected in outputs.items():
        off, fault = difference(expected, found[name], steps, tolerance)
        worst = max(worst, off)
        if fault:
            faults.append(f"{name}: {fault}")
    return worst, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apus", default=str(ROOT / ".build" / "release" / "apus"))
    parser.add_argument("only", nargs="*", help="parts of names of fixtures; all without")
    options = parser.parse_args()
    models = [
        model
        for values in sorted(FIXTURES.rglob("*.npz"))
        for model in sorted(values.parent.glob(values.stem + ".*"))
        if model.suffix != ".npz" and (not options.only or any(part in str(model) for part in options.only))
    ]
    failed = 0
    for model in models:
        worst, faults = check(options.apus, model)
        failed += bool(faults)
        print(f"{'FAILED' if faults else 'ok':6} {worst:8.1e} {model.relative_to(FIXTURES)}")
        for fault in faults:
            print(f"       {fault}")
    print(f"{len(models) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not models else 0


if __name__ == "__main__":
    sys.exit(main())
