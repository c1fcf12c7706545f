#!/usr/bin/env python3
"""Compares operators with onnx's reference evaluator, onnxruntime and NumPy on random shapes, attributes, types,
versions.

Every case is a model of one node. The oracles are compared with each other first. Where all that compute the case
agree, that is the expectation; where they differ, a rule of operator_cases says what holds and on whose authority
(`--rules` prints them), and a difference that nothing explains fails. `apus conformance` runs the cases, optimized and
unoptimized. A failure is shrunk and kept. At the end stand the rules that overruled oracles which agree, and those that
were never needed. The exit status is 0 only if nothing failed. The last line counts operators. Run it with the python
that
`tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import onnx

from operator_cases.case import GENERATORS, NotApplicable, family_of
from operator_cases.rules import ORACLES, RULES, table

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".cache" / "differential"
ATTEMPTS = 60
SECONDS = 60  # that the oracles may take for one case
# What is counted: cases; of them those on which the oracles agree, that one alone computes, that more digits or a rule
# decide, that nothing explains, on which Apus fails; and draws that no oracle computes.
COLUMNS = (
    "cases",
    "agreed",
    "reference",
    "onnxruntime",
    "numpy",
    "precise",
    "rule",
    "UNEXPLAINED",
    "failed",
    "refused",
)
LEVELS = ((1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (4, 5))  # max_rank, max_extent


@dataclass
class Drawn:
    """A case that a worker has drawn: what it draws the same case from again, and what the oracles say of it."""

    request: dict[str, Any]
    kind: str  # that of a Judgement
    summary: str
    choices: dict[str, Any]  # version, opset and types, to force when it is shrunk
    edits: list[tuple[str, Any]]  # that may be tried to make it simpler
    size: int
    detail: str = ""
    rules: list[int] = field(default_factory=list)  # that decided or recorded the case
    overrules: bool = False


@dataclass
class Verdict:
    """What one operator gave."""

    domain: str
    op: str
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[Drawn, str]] = field(default_factory=list)
    refusal: str = ""
    report: list[str] = field(default_factory=list)
    fired: Counter[int] = field(default_factory=Counter)  # cases that a rule decided
    overruled: dict[int, list[str]] = field(default_factory=dict)  # cases by the rule that stood against all oracles

    @property
    def outcome(self) -> str:
        if self.counts["failed"] or self.counts["UNEXPLAINED"]:
            return "failed"
        return "passed" if self.counts["cases"] else "skipped"


class Worker:
    """A process that draws cases and runs the oracles; it is started anew when one of them brings it down."""

    def __init__(self) -> None:
        self.process: multiprocessing.process.BaseProcess | None = None
        self.pipe: Connection | None = None

    def run(self, request: dict[str, Any]) -> Drawn | str:
        """The drawn case, written to the request's folder, or why there is none."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=serve, args=(theirs,), daemon=True)
            self.process.start()
            theirs.close()
        try:
            self.pipe.send(request)
            if self.pipe.poll(SECONDS):
                return self.pipe.recv()
            reason = f"the oracles took more than {SECONDS} s"
        except (EOFError, OSError):
            reason = "an oracle crashed"
        self.close()
        return reason

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None


def serve(pipe: Connection) -> None:
    """The worker's loop: a request in, a Drawn or a reason out."""
    import numpy as np

    np.seterr(all="ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(compute(request))
        except NotApplicable as reason:
            pipe.send(f"not applicable: {reason}")
        except Exception as error:  # a generator at fault is a refusal with its place
            place = error.__traceback__
            while place.tb_next:
                place = place.tb_next
            where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
            pipe.send(f"GENERATOR {where}: {type(error).__name__}: {error}")


def compute(request: dict[str, Any]) -> Drawn | str:
    """Draws a case, asks the oracles, writes the case with what is expected of it."""
    import numpy as np

    from operator_cases import draw, oracles
    from operator_cases.edits import apply, possible
    from operator_cases.judgement import judge

    case = draw(
        np.random.default_rng(request["key"]),
        request["op"],
        request["domain"],
        version=request.get("version"),
        opset=request.get("opset"),
        forced=request.get("forced"),
        max_rank=request.get("max_rank", 6),
        max_extent=request.get("max_extent", 64),
    )
    for edit in request.get("edits", ()):
        apply(case, edit)
    results, reasons = oracles.run_all(case)
    try:
        judgement = judge(case, results)
    except oracles.Refusal as reason:
        return "refused: " + "; ".join([str(reason), *reasons])
    folder = Path(request["folder"])
    for name, outputs in judgement.expected.items():
        case.write(folder if len(judgement.expected) == 1 else folder.with_name(f"{folder.name}__{name}"), outputs)
    size = sum(getattr(value, "size", 1) for value in case.values_by_name.values())
    choices = {"version": case.version, "opset": case.opset, "forced": dict(case.types)}
    edits = possible(case) if case.expected is None else []
    rules = judgement.records if judgement.rule is None else [judgement.rule]
    return Drawn(
        request, judgement.kind, case.summary(), choices, edits, size, judgement.detail, rules, judgement.overrules
    )


# The engine


def conformance(apus: str, folder: Path) -> dict[str, str]:
    """Of every case below the folder, by its name: "" if it passed both ways, else what is wrong."""
    found: dict[str, str] = {}
    for option in ([], ["--unoptimized"]):
        for name, message in run_apus(apus, folder, option).items():
            found[name] = found.get(name) or (message and f"{message}{' (unoptimized)' if option else ''}")
    return found


def run_apus(apus: str, folder: Path, options: Sequence[str]) -> dict[str, str]:
    command = [apus, "conformance", str(folder), "--json", *options]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        cases = json.loads(result.stdout)["cases"]
        return {case["name"]: "" if case["outcome"] == "passed" else case["message"] or "failed" for case in cases}
    except (ValueError, KeyError):
        why = f"apus ended with status {result.returncode}: {result.stderr.strip()[-300:]}"
    except subprocess.TimeoutExpired:
        why = "apus took more than 600 s"
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    if (folder / "model.onnx").exists():
        return {folder.name: why}
    found: dict[str, str] = {}
    for path in below:  # one of the cases brings the process down: each by itself
        found |= run_apus(apus, path, options)
    return found


# One operator


def draw_case(worker: Worker, verdict: Verdict, request: dict[str, Any], folder: Path) -> Drawn | None:
    """A case that an oracle computes, of several attempts; counts the refusals."""
    key = request["key"]
    for attempt in range(ATTEMPTS):
        answer = worker.run(request | {"key": [*key, attempt], "folder": str(folder)})
        if isinstance(answer, Drawn):
            return answer
        label = "inapplicable" if answer.startswith("not applicable") else "refused"
        verdict.counts[label] += 1
        if "GENERATOR" in answer or "GENERATOR" not in verdict.refusal:
            verdict.refusal = answer
    return None


def test_operator(worker: Worker, domain: str, op: str, arguments: argparse.Namespace, folder: Path) -> Verdict:
    verdict = Verdict(domain, op)
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, Drawn] = {}
    for index in range(arguments.cases):
        request = {"key": [arguments.seed, zlib.crc32(f"{domain}.{op}".encode()), index], "op": op, "domain": domain}
        name = f"{op}_{index:03}"
        if case := draw_case(worker, verdict, request, folder / name):
            drawn[name] = case
            verdict.counts["cases"] += 1
            verdict.counts[case.kind] += 1
            verdict.fired.update(case.rules)
            if case.overrules:
                verdict.overruled.setdefault(case.rules[0], []).append(case.summary)
        elif index == 0:
            break
    results = conformance(arguments.apus, folder) if drawn else {}
    for name, case in drawn.items():
        if case.kind == "UNEXPLAINED":
            message = unexplained(name, case, results)
        elif message := results.get(name, "apus did not report the case"):
            verdict.counts["failed"] += 1
        if message:
            verdict.failures.append((case, message))
    for number, (case, message) in enumerate(verdict.failures[: arguments.failures]):
        shrinking = Shrinking(worker, arguments.apus, folder / f"shrink-{number}", case, message)
        shrinking.run()
        verdict.report += shrinking.report(number)
    return verdict


def unexplained(name: str, case: Drawn, results: dict[str, str]) -> str:
    messages = {oracle: results[key] for oracle in ORACLES if (key := f"{name}__{oracle}") in results}
    agrees = [oracle for oracle, message in messages.items() if not message]
    texts = "".join(f"\n      apus against {oracle}: {text}" for oracle, text in messages.items() if text)
    return f"{case.detail}; apus agrees with {' and '.join(agrees) or 'neither'}{texts}"


class Shrinking:
    """Makes one failure of an operator as small as it goes, by drawing and editing cases that fail in the same way."""

    def __init__(self, worker: Worker, apus: str, folder: Path, case: Drawn, message: str) -> None:
        self.worker, self.apus, self.folder = worker, apus, folder
        self.best, self.message = case, message
        self.manner = manner(case, message)
        self.rounds = 0
        self.seen = f"first seen in {case.summary}: {message}"

    def run(self) -> None:
        self.draw_smaller()
        for _ in range(8):
            edits = [{"edits": [*self.best.request.get("edits", ()), edit]} for edit in self.best.edits]
            if not self.take_smallest([self.best.request | edit for edit in edits]):
                break

    def draw_smaller(self) -> None:
        """The same version and types drawn anew with fewer axes and smaller extents, until a draw fails."""
        request = self.best.request | self.best.choices
        for max_rank, max_extent in LEVELS:
            bounds = {"max_rank": max_rank, "max_extent": max_extent}
            key = [*request["key"], max_rank, max_extent]
            if self.take_smallest([request | bounds | {"key": [*key, index]} for index in range(16)]):
                return

    def take_smallest(self, requests: Sequence[dict[str, Any]]) -> bool:
        """Draws the cases; the smallest that fails in the same manner, not larger than the best, is the best now."""
        self.rounds += 1
        place = self.folder / f"round-{self.rounds}"
        place.mkdir(parents=True)
        cases: dict[str, Drawn] = {}
        for index, request in enumerate(requests):
            name = f"case_{index:02}"
            answer = self.worker.run(request | {"folder": str(place / name)})
            if isinstance(answer, Drawn) and answer.size <= self.best.size:
                cases[name] = answer
        results = conformance(self.apus, place) if cases else {}
        for name, case in sorted(cases.items(), key=lambda item: item[1].size):
            text = unexplained(name, case, results) if case.kind == "UNEXPLAINED" else results.get(name, "")
            if text and manner(case, text) == self.manner:
                self.best, self.message = case, text
                return True
        return False

    def report(self, number: int) -> list[str]:
        """Keeps the smallest model; the lines that say what fails."""
        case = self.best
        place = KEPT / f"{case.request['domain'] or 'onnx'}-{case.request['op']}-{number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        self.worker.run(case.request | {"folder": str(place / "case")})
        lines = [f"    {case.summary}", f"      {case.kind}: {self.message}", f"      {self.seen}"[:400]]
        return lines + [f"      kept in {place.relative_to(ROOT)}; drawn from {case.request['key']}"]


def manner(case: Drawn, message: str) -> str:
    """What kind of failure it is: shrinking must not wander to another one."""
    if case.kind == "UNEXPLAINED":
        return case.kind
    return "values" if "elements differ" in message else "form" if "; expected" in message else "error"


# All operators


def wanted(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    chosen = []
    for domain, op in sorted(GENERATORS):
        if arguments.domain is not None and domain != arguments.domain:
            continue
        if arguments.family and family_of(domain, op) not in arguments.family.split(","):
            continue
        if not arguments.operators or op in arguments.operators:
            chosen.append((domain, op))
    if unknown := set(arguments.operators) - {op for _, op in chosen}:
        sys.exit(f"no generator of {', '.join(sorted(unknown))} in what was asked for")
    number, count = arguments.shard
    return chosen[number - 1 :: count]


def print_verdict(verdict: Verdict) -> None:
    counts = verdict.counts
    name = f"{verdict.domain}.{verdict.op}" if verdict.domain else verdict.op
    print(f"{name:46}" + "".join(f"{counts[key]:{len(key) + 2}}" for key in COLUMNS), flush=True)
    if verdict.refusal and ("GENERATOR" in verdict.refusal or not counts["cases"]):
        print(f"    {verdict.refusal[:600]}")
    for line in verdict.report:
        print(line[:1500], flush=True)


def missing() -> list[str]:
    """Operators of onnx that are not deprecated and have no generator."""
    names = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas() if not schema.deprecated}
    return [f"{domain}.{op}" if domain else op for domain, op in sorted(names - set(GENERATORS))]


def shard(text: str) -> tuple[int, int]:
    """`2/5`, the second of five parts."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N with 1 ≤ I ≤ N")
    return int(number), int(count)


def print_rules(verdicts: Sequence[Verdict]) -> None:
    """The rules that stood against oracles that agree, and those that no case needed, by operator."""
    overruling: dict[int, list[str]] = {}
    for verdict in verdicts:
        for index, summaries in verdict.overruled.items():
            overruling.setdefault(index, []).extend(summaries)
    print(f"rules that overrule oracles which agree: {len(overruling)}")
    for index, summaries in sorted(overruling.items()):
        entry = RULES[index]
        print(f"    {entry.authority.title}: {entry.reason} ({entry.source}; {len(summaries)} cases)")
        print(f"      such as {summaries[0][:300]}")
    ran = {(verdict.domain, verdict.op): verdict for verdict in verdicts if verdict.counts["cases"]}
    idle = {}
    for index, entry in enumerate(RULES):
        asked = [ran[entry.domain, op] for op in entry.operators if (entry.domain, op) in ran]
        if names := [verdict.op for verdict in asked if not verdict.fired[index]]:
            idle[index] = names
    print(f"rules that no case of an operator needed: {len(idle)}")
    for index, names in idle.items():
        print(f"    {', '.join(names)}: {RULES[index].reason}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operators", nargs="*", help="names of operators (default: all)")
    parser.add_argument("--domain", help="only operators of this domain; '' is that of ONNX")
    parser.add_argument("--family", help="only operators of these families (names as below Sources/ApusOperators)")
    parser.add_argument("--cases", type=int, default=200, help="cases an operator (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apus", default=str(ROOT / ".build/release/apus"), help="the program to test")
    parser.add_argument("--keep", type=Path, help="write the cases here and leave them")
    parser.add_argument("--failures", type=int, default=2, help="failures to shrink and print an operator (default: 2)")
    parser.add_argument("--jobs", type=int, default=2, help="operators at a time (default: 2)")
    parser.add_argument(
        "--shard", type=shard, default=(1, 1), metavar="I/N", help="only every N-th operator, from the I-th on"
    )
    parser.add_argument("--rules", action="store_true", help="print the table of rules, in Markdown, and end")
    parser.add_argument("--json", type=Path, help="write the counts by operator to this file")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    if arguments.rules:
        print("\n".join(table()))
        return 0
    if not Path(arguments.apus).is_file():
        sys.exit(f"no program {arguments.apus}; build it (swift build -c release) or name one (--apus)")
    chosen = wanted(arguments)
    workers: SimpleQueue[Worker] = SimpleQueue()
    for _ in range(arguments.jobs):
        workers.put(Worker())
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="apus-differential-") as temporary:
        folder = arguments.keep or Path(temporary)

        def job(pair: tuple[str, str]) -> Verdict:
            worker = workers.get()
            try:
                place = folder / (pair[0] or "onnx") / pair[1]
                return test_operator(worker, *pair, arguments, place)
            finally:
                if not arguments.keep:
                    shutil.rmtree(place, ignore_errors=True)
                workers.put(worker)

        print(f"{'operator':46}" + "".join(f"  {key}" for key in COLUMNS))
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for verdict in pool.map(job, chosen):
                print_verdict(verdict)
                verdicts.append(verdict)
    while not workers.empty():
        workers.get().close()
    if arguments.json:
        rows = [{"domain": v.domain, "operator": v.op, "outcome": v.outcome, **v.counts} for v in verdicts]
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if not arguments.operators and arguments.domain is None and not arguments.family and (names := missing()):
        print(f"without a generator: {', '.join(names)}")
    print_rules(verdicts)
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    print(f"{outcomes['passed']} passed, {outcomes['failed']} failed, {outcomes['skipped']} skipped")
    return 1 if outcomes["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
