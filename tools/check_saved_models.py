#!/usr/bin/env python3
"""What `apus optimize` saves must load elsewhere: every model of the ONNX backend suite and of TestModels/, saved and
held against its source.

The saved file must pass onnx.checker where the source does, load in onnxruntime where the source does and give the same
values, have no operator set above the source's, and no two nodes of one name. With --passes all, what the passes of
this engine alone made must be saved as standard operators. A source that onnxruntime refuses is
checked without values; one that Apus refuses is skipped. Ends with the line `N passed, N failed, N skipped`. Run it
with the python that `tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from check_test_models import input_files
from model_values import read_value

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
# Reading makes operators of com.microsoft, and normalization by groups of version 18, of newer standard ones.
RAISED = {"GroupNormalization", "CastLike", "Scan"}


def session(path: Path) -> onnxruntime.InferenceSession | None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001: whatever it says, it does not load the model
        return None


def is_valid(path: Path) -> str:
    """What onnx.checker has against the model; empty if nothing."""
    try:
        onnx.checker.check_model(str(path))
        return ""
    except Exception as error:  # noqa: BLE001
        return str(error).strip() or type(error).__name__


def graphs(graph: onnx.GraphProto):
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                yield from graphs(inner)


def opsets(model: onnx.ModelProto) -> dict[str, int]:
    return {
        entry.domain.removeprefix("ai.onnx") if entry.domain == "ai.onnx" else entry.domain: entry.version
        for entry in model.opset_import
    }


def structure(source: onnx.ModelProto, saved: onnx.ModelProto) -> list[str]:
    faults = []
    before, after = opsets(source), opsets(saved)
    operators = {node.op_type for graph in graphs(source.graph) for node in graph.node}
    mayrise = (
        bool(operators & RAISED)
        or before.get("", 7) < 7
        or len(source.functions) > 0
        or set(before) - {"", "ai.onnx.ml"}
    )
    for domain, version in after.items():
        if domain in before and version > before[domain] and not mayrise:
            faults.append(f"operator set '{domain}' is {version}; the source has {before[domain]}")
    if saved.ir_version > max(source.ir_version, 4) and after.get("", 1) <= before.get("", 1):
        faults.append(f"IR version {saved.ir_version}; the source has {source.ir_version}")
    names = Counter(node.name for graph in graphs(saved.graph) for node in graph.node if node.name)
    faults += [f"{count} nodes are called '{name}'" for name, count in names.items() if count > 1]
    return faults


def same(found, wanted) -> bool:
    if isinstance(wanted, (list, dict)) or wanted is None or isinstance(found, (list, dict)) or found is None:
        return type(found) is type(wanted) and (
            not isinstance(wanted, list)
            or (len(found) == len(wanted) and all(same(a, b) for a, b in zip(found, wanted)))
        )
    found, wanted = np.asarray(found), np.asarray(wanted)
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return False
    if wanted.dtype.kind in "fc":
        return bool(
            np.allclose(found, wanted, rtol=2e-3 if wanted.dtype == np.float16 else 1e-4, atol=1e-5, equal_nan=True)
        )
    return bool(np.array_equal(found, wanted))


def values(path: Path, source: Path, saved: Path) -> list[str]:
    """Compares both files in onnxruntime on the stored inputs of the first data set."""
    before = session(source)
    if before is None:
        return []
    after = session(saved)
    if after is None:
        try:
            onnxruntime.InferenceSession(str(saved), providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001
            return [f"onnxruntime loads the source only: {str(error).strip()[-200:]}"]
    folder = path / "test_data_set_0"
    if not folder.is_dir():
        return []
    graph = onnx.load(str(source), load_external_data=False).graph
    try:
        infos = {info.name: info for info in graph.input}
        feeds = {name: read_value(file, infos[name]) for name, file in input_files(graph, folder)}
        wanted = before.run(None, feeds)
    except Exception:  # noqa: BLE001: onnxruntime cannot run it
        return []
    try:
        found = after.run(None, feeds)
    except Exception as error:  # noqa: BLE001
        return [f"onnxruntime runs the source only: {str(error).strip()[-200:]}"]
    return [f"output {i} differs" for i, (a, b) in enumerate(zip(found, wanted)) if not same(a, b)]


def check(apus: Path, source: Path, flags: list[str]) -> tuple[str, list[str] | None]:
    """The name of the model and its faults; None instead of faults if Apus does not read it."""
    name = f"{source.parent.parent.name}/{source.parent.name}" if source.stem == "model" else source.name
    with tempfile.TemporaryDirectory(prefix="apus-saved-") as place:
        saved = Path(place) / "saved.onnx"
        done = subprocess.run(
            [str(apus), "optimize", str(source), "--output", str(saved), *flags],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        if done.returncode != 0:
            checked = subprocess.run([str(apus), "check", str(source)], capture_output=True, text=True, timeout=SECONDS)
            return name, (
                None if checked.returncode != 0 else [f"apus optimize: {(done.stderr or done.stdout).strip()[:300]}"]
            )
        before, after = (
            onnx.load(str(source), load_external_data=False),
            onnx.load(str(saved), load_external_data=False),
        )
        faults = structure(before, after) if not flags else []
        if not is_valid(source) and (reason := is_valid(saved)):
            faults.append(f"onnx.checker: {reason[:300]}")
        return name, faults + values(source.parent, source, saved)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", type=Path, default=ROOT / ".build/release/apus")
    parser.add_argument("--suite", type=Path, default=ROOT / ".cache/onnx-backend-tests")
    parser.add_argument("--only", default="", help="models whose path has this in it")
    parser.add_argument("--every", type=int, default=1, help="take one of so many models of the suite")
    parser.add_argument(
        "--passes",
        choices=["portable", "all"],
        default="portable",
        help="all: also those that end in operators of Apus alone, which are saved as standard ones",
    )
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    models = sorted(options.suite.glob("*/*/model.onnx"))[:: options.every] + sorted(
        (ROOT / "TestModels").glob("*.onnx")
    )
    models = [path for path in models if options.only in str(path) and path.stat().st_size < 100_000_000]
    flags = ["--passes", options.passes] if options.passes != "portable" else []
    passed = failed = skipped = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for name, faults in pool.map(lambda path: check(options.apus, path, flags), models):
            if faults is None:
                skipped += 1
            elif faults:
                failed += 1
                print(f"{name}: " + "; ".join(faults), flush=True)
            else:
                passed += 1
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
