#!/usr/bin/env python3
"""Times single operators with Apus and with onnxruntime, run by run in turn within this process.

A ratio is onnxruntime's time over that of Apus: above 1 Apus is ahead. Times are lower quartiles, through Python as a
user calls, on one thread unless --threads says otherwise; the peer's workers do not spin. Results are held against
each other. A case that onnxruntime lacks is skipped with its reason. Status 0 if every case ran in Apus, and no result
differs without a written reason (tools/operator_speed/reasons.py). The environment's APUS_ISA chooses instructions.
Run it with the python that `tools/python-env peers` or `tools/python-env test` prints, after
`swift build -c release`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools/python"))

from operator_speed import all_cases  # noqa: E402
from operator_speed.case import Case  # noqa: E402


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="PATTERN",
        default=[],
        help="cases whose name, operator, family or type has this text or matches this pattern",
    )
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every Nth case, from the Kth")
    parser.add_argument("--list", action="store_true", help="print the cases and time nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    parser.add_argument("--against", type=Path, metavar="FILE", help="what --json wrote before: print what has changed")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="also draw them here")
    parser.add_argument("--seconds", type=float, default=0.15, help="of timed runs a case (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--summary", action="store_true", help="print means and counts, not the table of cases")
    return parser.parse_args()


def chosen(case: Case, patterns: list[str]) -> bool:
    names = (case.name, case.operator, case.family, case.type, case.kind)
    return not patterns or any(
        fnmatchcase(name.lower(), pattern.lower()) or (name == case.name and pattern.lower() in name.lower())
        for pattern in patterns
        for name in names
    )


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def show_progress(done: int, count: int, name: str) -> None:
    """One line that changes, or in a log a line for some cases."""
    if sys.stderr.isatty():
        print(f"\r{done}/{count} {name:70.70}", end="\n" if done == count else "", file=sys.stderr, flush=True)
    elif done % 50 == 0 or done == count:
        print(f"{done}/{count}", file=sys.stderr, flush=True)


def main() -> int:
    options = parse_arguments()
    cases = [case for case in all_cases() if chosen(case, options.only)]
    part, parts = map(int, options.part.split("/"))
    cases = cases[part - 1 :: parts]
    if not cases:
        print("no case matches", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{case.family:24} {case.kind:8} {case.name}" for case in cases))
        return 0
    # Late: listing needs neither engine.
    import apus
    import onnxruntime
    from operator_speed import report
    from operator_speed.measure import measure

    started = time.monotonic()
    results = []
    for index, case in enumerate(cases):
        results.append(measure(case, options.threads, options.seconds))
        show_progress(index + 1, len(cases), case.name)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    sections = [report.means(results), report.others(results), report.counts(results)]
    if not options.summary:
        sections.insert(0, report.table(results))
    if options.against:
        before = json.loads(options.against.read_text())["cases"]
        sections.append(report.changes(results, {case["name"]: case for case in before}))
    print("\n\n".join(section for section in sections if section))
    about = {
        "apus": apus.__version__,
        "onnxruntime": onnxruntime.__version__,
        "processor": processor(),
        "threads": options.threads,
        "isa": os.environ.get("APUS_ISA", ""),
    }
    if options.json:
        content = about | {"cases": [result.record() for result in results]}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if options.picture:
        title = f"Speed of operators, onnxruntime {onnxruntime.__version__} / Apus, {options.threads} thread(s)"
        options.picture.write_text(report.picture(results, title))
    return int(any(result.status == "failed" or result.differs for result in results))


if __name__ == "__main__":
    sys.exit(main())
