#!/usr/bin/env python3
"""Compares the operators of com.microsoft with onnxruntime on random shapes, attributes and types.

Writes cases in the layout of the ONNX backend suite, with what onnxruntime computes as the expected outputs (graph
passes off), and lets `apus conformance` run them, optimized and unoptimized. Cases that onnxruntime refuses are drawn
anew. Prints a line an operator; the exit status is 0 only if every case passes. Run it with the python that
`tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime

from microsoft_cases import GENERATORS, Case

ROOT = Path(__file__).resolve().parent.parent
ATTEMPTS = 40


def run_onnxruntime(case: Case) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        case.model().SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, case.feeds)


def write_cases(name: str, count: int, seed: int, folder: Path) -> tuple[int, str]:
    """The number of cases written, and why onnxruntime refused the last one it refused."""
    written, refusal = 0, ""
    for index in range(count):
        for attempt in range(ATTEMPTS):
            case = Case(np.random.default_rng([seed, zlib.crc32(name.encode()), index, attempt]))
            try:
                GENERATORS[name](case)
                outputs = run_onnxruntime(case)
            except Exception as error:  # onnxruntime has a class for every status
                refusal = str(error)
                continue
            case.write(folder / "com.microsoft" / f"{name}_{index:03}", outputs)
            written += 1
            break
    return written, refusal


def conformance(apus: str, folder: Path, unoptimized: bool) -> list[dict]:
    command = [apus, "conformance", str(folder), "--json"] + (["--unoptimized"] if unoptimized else [])
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(result.stdout)["cases"]
    except (ValueError, KeyError):
        sys.exit(f"{' '.join(command)} failed ({result.returncode}):\n{result.stdout[-2000:]}{result.stderr[-4000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operators", nargs="*", help="names of operators (default: all)")
    parser.add_argument("--cases", type=int, default=50, help="cases an operator (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apus", default=str(ROOT / ".build/debug/apus"), help="the program to test")
    parser.add_argument("--keep", type=Path, help="write the cases here and leave them")
    parser.add_argument("--failures", type=int, default=2, help="failures to print an operator")
    arguments = parser.parse_args()
    names = arguments.operators or sorted(GENERATORS)
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        for name in names:
            place = folder / name
            written, refusal = write_cases(name, arguments.cases, arguments.seed, place)
            if written == 0:
                print(f"{name:36} onnxruntime refuses all: {refusal.splitlines()[0][:200] if refusal else ''}")
                continue
            counts: Counter[str] = Counter()
            messages: list[str] = []
            for unoptimized in (False, True):
                for case in conformance(arguments.apus, place, unoptimized):
                    passed = case["outcome"] == "passed"
                    counts["passed" if passed else "failed"] += 1
                    if not passed:
                        messages.append(f"    {case['name']}: {case.get('message') or case}"[:700])
            failed += counts["failed"]
            print(f"{name:36} {written:4} cases  {counts['passed']:4} passed  {counts['failed']:4} failed", flush=True)
            for message in messages[: arguments.failures]:
                print(message)
    print(f"{failed} failed" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
