#!/usr/bin/env python3
"""Compiled models beside the models that they are made of: results, time to ready, memory that processes share.

`bits` compiles every model (--models, and TestModels/ with their stored inputs) under each level of instructions that
the machine has, and runs both on the same inputs: the outputs must be the same bit for bit, and the other levels must
refuse the file. `ready` measures, in a new process each time, how long a model takes from its path to a session that
can run, with its file in the page cache and without, and the first run; `shared` says what two processes on one model
take together. Needs libapus and the program (`swift build -c release`, with `--product apus-c` and `--product apus`)
and the python that `tools/python-env test` prints. Keep the machine quiet for `ready`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools/python"))
sys.path.insert(0, str(ROOT / "tools"))
from check_test_models import input_files, number  # noqa: E402
from model_inputs import make_feeds, read_spec  # noqa: E402
from model_values import flatten, read_value  # noqa: E402

import apus  # noqa: E402
from apus._library import library  # noqa: E402

#: The levels of instructions, the least first.
LEVELS = ("portable", "avx2", "avx512")
#: What one process may take.
SECONDS = 1800
#: Models of fewer bytes are tried in one process.
SMALL_BYTES = 10 << 20


def trials(model: Path) -> list[dict[str, Any]]:
    """The inputs that a model is tried on: stored ones of a test model, else those of its NAME.inputs.json."""
    stored = sorted((model.parent / "data" / model.stem).glob("test_data_set_*"), key=number)
    proto = onnx.load(model, load_external_data=False)
    if stored:
        infos = {info.name: info for info in proto.graph.input}
        return [
            {name: read_value(file, infos[name]) for name, file in input_files(proto.graph, folder)}
            for folder in stored
        ]
    spec = read_spec(model)
    return [make_feeds(model, spec, binding, seed) for seed, binding in enumerate(spec.shapes)]


def outputs(session: apus.InferenceSession, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    """The results of a run, or the error that it ends with."""
    apus.set_seed(1)
    try:
        results = session.run(None, feeds)
    except apus.Error as error:
        return {"error": np.array(str(error))}
    found: dict[str, np.ndarray] = {}
    for info, value in zip(session.get_outputs(), results, strict=True):
        found |= flatten(info.name, value)
    return found


def is_same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tolist() == other.tolist() if one.dtype.kind in "OUS" else one.tobytes() == other.tobytes()


def different(model: Path, compiled: Path) -> str:
    """Why two models do not give the same; empty if they do."""
    original, other = apus.InferenceSession(model, threads=2), apus.InferenceSession(compiled, threads=2)
    if original.get_inputs() != other.get_inputs() or original.get_outputs() != other.get_outputs():
        return "the inputs or outputs are described otherwise"
    names = {info.name for info in original.get_inputs()}
    for index, feeds in enumerate(trials(model)):
        if feeds.keys() - names:  # gives an input that has a default value, which a compiled model has as a constant
            continue
        expected, found = outputs(original, feeds), outputs(other, feeds)
        if expected.keys() != found.keys():
            return f"trial {index}: other outputs"
        for name, value in expected.items():
            if not is_same(value, found[name]):
                return f"trial {index}: output {name} has other bits"
    return ""


def failure(model: Path, compiled: Path) -> str:
    """The same, for models that may not run at all."""
    try:
        return different(model, compiled)
    except (apus.Error, OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def refusal(path: Path) -> str:
    """Why a model cannot be loaded."""
    try:
        apus.InferenceSession(path, threads=1)
    except apus.Error as error:
        return str(error)
    return "no error"


def ready(path: Path, feeds: dict[str, Any]) -> dict[str, float]:
    """Milliseconds that the library takes to load, then until a session is ready, and of its first runs."""
    before = time.perf_counter()
    library()
    started = time.perf_counter()
    session = apus.InferenceSession(path, threads=2)
    loaded = time.perf_counter()
    session.run(None, feeds)
    first = time.perf_counter()
    session.run(None, feeds)
    second = time.perf_counter()
    times = {
        "library": started - before,
        "load": loaded - started,
        "first run": first - loaded,
        "second run": second - first,
    }
    return {key: round(1000 * value, 2) for key, value in times.items()}


def child(*arguments: str, level: str | None = None) -> Any:
    """What a process of this program prints for `arguments`."""
    environment = os.environ | ({"APUS_ISA": level} if level else {})
    command = [sys.executable, str(Path(__file__).resolve()), "child", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS)
    if finished.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {finished.returncode}\n{finished.stderr}")
    return json.loads(finished.stdout)


def compile_model(program: Path, model: Path, target: Path, level: str | None = None) -> str:
    """Compiles a model; why it cannot be, or an empty text."""
    environment = os.environ | ({"APUS_ISA": level} if level else {})
    command = [str(program), "compile", str(model), "--output", str(target)]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS)
    return "" if finished.returncode == 0 else (finished.stderr.strip() or f"exit status {finished.returncode}")


def levels(program: Path, folder: Path) -> list[str]:
    """The levels that this machine has."""
    found = []
    for level in LEVELS:
        target = folder / "level.apus"
        if compile_model(program, ROOT / "TestModels/digits.onnx", target, level):
            continue
        report = subprocess.run(
            [str(program), "info", str(target), "--json"],
            capture_output=True,
            text=True,
            env=os.environ | {"APUS_ISA": level},
        )
        if report.returncode == 0 and f"and {level}" in json.loads(report.stdout)["compiled_for"]:
            found.append(level)
    return found


def batches(models: list[Path]) -> list[list[Path]]:
    """Small models together, large ones alone: a process costs more than a small model."""
    small = [model for model in models if model.stat().st_size < SMALL_BYTES]
    return ([small] if small else []) + [[model] for model in models if model not in small]


def check_bits(program: Path, models: list[Path], folder: Path) -> int:
    passed = failed = 0
    available = levels(program, folder)
    print(f"levels: {', '.join(available)}")
    for batch in batches(models):
        for level in available:
            reasons = {}
            targets = {model: folder / f"{model.stem}.apus" for model in batch}
            for model, target in targets.items():
                if reason := compile_model(program, model, target, level):
                    reasons[model] = reason
            pairs = [str(path) for model, target in targets.items() if model not in reasons for path in (model, target)]
            found = child("different", *pairs, level=level)
            reasons |= {Path(model): reason for model, reason in found.items() if reason}
            for other in set(available) - {level}:
                for model, reason in child("refused", *pairs, level=other).items():
                    if f"for the instructions {level}" not in reason:
                        reasons.setdefault(Path(model), f"{other} does not refuse it: {reason}")
            for model, reason in reasons.items():
                print(f"{model.stem}, {level}: {reason}", flush=True)
            passed, failed = passed + len(batch) - len(reasons), failed + len(reasons)
            for target in targets.values():
                target.unlink(missing_ok=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


def forget(path: Path) -> None:
    """Takes a file out of the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def measure_ready(program: Path, models: list[Path], folder: Path, count: int) -> int:
    for model in models:
        target = folder / f"{model.stem}.apus"
        started = time.perf_counter()
        if reason := compile_model(program, model, target):
            print(f"{model.stem}: {reason}")
            return 1
        seconds = time.perf_counter() - started
        print(f"{model.stem}: compiled in {seconds:.1f} s, {target.stat().st_size / 1e6:.1f} MB")
        for path in (model, target):
            for cached in (True, False):
                times = []
                for _ in range(count):
                    if cached:
                        path.read_bytes()
                    else:
                        forget(path)
                    times.append(child("ready", str(model), str(path)))
                medians = {key: float(np.median([entry[key] for entry in times])) for key in times[0]}
                text = ", ".join(f"{key} {value:.1f} ms" for key, value in medians.items())
                print(
                    f"  {path.name}, {'in the page cache' if cached else 'not in the page cache'}: {text}", flush=True
                )
        target.unlink()
    return 0


def memory(process: subprocess.Popen[str]) -> dict[str, float]:
    """Resident and proportional megabytes of a process."""
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    lines = (line.split() for line in text.splitlines()[1:])
    return {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if line[0] in ("Rss:", "Pss:")}


def measure_shared(program: Path, models: list[Path], folder: Path) -> int:
    for model in models:
        target = folder / f"{model.stem}.apus"
        if reason := compile_model(program, model, target):
            print(f"{model.stem}: {reason}")
            return 1
        for path in (model, target):
            command = [sys.executable, str(Path(__file__).resolve()), "child", "hold", str(model), str(path)]
            processes = [
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
            ]
            for process in processes:
                assert process.stdout is not None
                process.stdout.readline()
            found = [memory(process) for process in processes]
            for process in processes:
                process.communicate("\n")
            total = sum(entry["Pss"] for entry in found)
            parts = "; ".join(f"Rss {entry['Rss']:.0f} MB, Pss {entry['Pss']:.0f} MB" for entry in found)
            print(f"{path.name}: two processes take {total:.0f} MB ({parts})", flush=True)
        target.unlink()
    return 0


def run_child(arguments: list[str]) -> int:
    kind, model, path = arguments[0], Path(arguments[1]), Path(arguments[2])
    pairs = list(zip(arguments[1::2], arguments[2::2], strict=True))
    if kind == "different":
        print(json.dumps({model: failure(Path(model), Path(path)) for model, path in pairs}))
    elif kind == "refused":
        print(json.dumps({model: refusal(Path(path)) for model, path in pairs}))
    elif kind == "ready":
        spec = read_spec(model)
        print(json.dumps(ready(path, make_feeds(model, spec, spec.bench or spec.shapes[0], 0))))
    elif kind == "hold":
        session = apus.InferenceSession(path, threads=1)
        spec = read_spec(model)
        session.run(None, make_feeds(model, spec, spec.bench or spec.shapes[0], 0))
        print("ready", flush=True)
        sys.stdin.readline()
    return 0


def main() -> int:
    if sys.argv[1:2] == ["child"]:
        return run_child(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bits", "ready", "shared"])
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="models with a NAME.inputs.json beside them")
    parser.add_argument("--no-test-models", action="store_true", help="leave TestModels/ out of bits")
    parser.add_argument("--apus", type=Path, default=ROOT / ".build/release/apus", help="the program")
    parser.add_argument("--count", type=int, default=5, help="processes for each time; the median counts")
    parser.add_argument("--folder", type=Path, help="where compiled models go meanwhile (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="apus-compiled-", dir=arguments.folder) as place:
        folder = Path(place)
        if arguments.what == "bits":
            tested = [] if arguments.no_test_models else sorted((ROOT / "TestModels").glob("*.onnx"))
            return check_bits(arguments.apus, tested + arguments.models, folder)
        if arguments.what == "ready":
            return measure_ready(arguments.apus, arguments.models, folder, arguments.count)
        return measure_shared(arguments.apus, arguments.models, folder)


if __name__ == "__main__":
    sys.exit(main())
