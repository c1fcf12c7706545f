#!/usr/bin/env python3
"""Models written for older and newer operator sets mean what they meant: every model of the ONNX backend suite, by
`apus convert --opset N` for each N, and from there back to the operator set of the source.

What is written must say operator set N, pass onnx.checker where the source does, compute in Apus what the suite says
(`apus conformance` on the written models), and with --peers in onnxruntime what the source computes there. A model that
N cannot hold must be refused with the name of the operator: these are counted, and listed by --list. Ends with the line
`N passed, N failed, N skipped`. Run it with the python that `tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import onnx

from check_saved_models import is_valid, opsets, values

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
OPSETS = range(9, 28)
REFUSAL = re.compile(r"(\S+) has no form in operator set \d+ that means the same")
# Newer onnxruntime than ours, or none, knows these.
PEER_OPSETS = range(9, 24)


class Suite:
    """Models of one operator set, laid out as `apus conformance` reads them."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.refused: Counter[str] = Counter()
        self.faults: dict[str, str] = {}
        self.models: dict[str, Path] = {}

    def convert(self, source: Path, name: str, case: Path, opset: int) -> None:
        target = self.folder / name
        target.mkdir(parents=True)
        for data in case.glob("test_data_set_*"):
            (target / data.name).symlink_to(data.resolve())
        written = target / "model.onnx"
        command = [str(self.options.apus), "convert", str(source), "--output", str(written), "--opset", str(opset)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode == 0:
            self.models[name] = written
            self.check(source, written, name, opset)
        elif found := REFUSAL.search(done.stderr):
            self.refused[found[1]] += 1
        else:
            self.faults[name] = f"{(done.stderr or done.stdout).strip()[:300]}"

    def check(self, source: Path, written: Path, name: str, opset: int) -> None:
        found = opsets(onnx.load(str(written), load_external_data=False)).get("", opset)
        if found != opset:
            self.faults[name] = f"the file says operator set {found}"
        elif not is_valid(source) and (reason := is_valid(written)):
            self.faults[name] = f"onnx.checker: {reason[:300]}"
        elif self.options.peers and opset in PEER_OPSETS and (faults := values(written.parent, source, written)):
            self.faults[name] = "; ".join(faults)

    def run(self) -> None:
        """Runs the models on the stored inputs."""
        command = [str(self.options.apus), "conformance", str(self.folder), "--json"]
        command += ["--unseeded", str(ROOT / "TestModels/conformance-unseeded.txt")]
        done = subprocess.run(command, capture_output=True, text=True)
        for case in json.loads(done.stdout)["cases"]:
            if case["outcome"] not in ("passed", "skipped"):
                name = f"{case['kind']}/{case['name']}"
                self.faults.setdefault(name, (case["message"] or case["outcome"])[:300])


def cases(options: argparse.Namespace) -> dict[str, Path]:
    folders = sorted(path.parent for path in options.suite.glob("*/*/model.onnx"))
    named = {f"{folder.parent.name}/{folder.name}": folder for folder in folders[:: options.every]}
    return {name: folder for name, folder in named.items() if options.only in name and not name.startswith("light/")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", type=Path, default=ROOT / ".build/release/apus")
    parser.add_argument("--suite", type=Path, default=ROOT / ".cache/onnx-backend-tests")
    parser.add_argument("--only", default="", help="models whose name has this in it")
    parser.add_argument("--every", type=int, default=1, help="take one of so many models of the suite")
    parser.add_argument("--opsets", type=int, nargs="*", default=list(OPSETS))
    parser.add_argument("--peers", action="store_true", help="compare in onnxruntime too")
    parser.add_argument("--list", action="store_true", help="show what was refused")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    named = cases(options)
    passed = failed = 0
    for opset in options.opsets:
        with tempfile.TemporaryDirectory(prefix="apus-opsets-") as place:
            there, back = (Suite(options, Path(place) / way) for way in ("there", "back"))
            with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(lambda n: there.convert(named[n] / "model.onnx", n, named[n], opset), named))
                there.run()

                def again(name: str) -> None:
                    source = onnx.load(str(named[name] / "model.onnx"), load_external_data=False)
                    before = opsets(source).get("", opset)
                    back.convert(there.models[name], name, named[name], max(before, 7))

                list(pool.map(again, list(there.models)))
            back.run()
            for way, suite in (("", there), (" and back", back)):
                for name, fault in sorted(suite.faults.items()):
                    print(f"{name} for operator set {opset}{way}: {fault}", flush=True)
                failed += len(suite.faults)
                passed += len(named if way == "" else there.models) - len(suite.faults)
            if options.list:
                refused = ", ".join(f"{op} {count}" for op, count in there.refused.most_common())
                print(f"operator set {opset}: {len(there.models)} models; refused: {refused or 'none'}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
