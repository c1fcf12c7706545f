#!/usr/bin/env python3
"""Checks the oracles of the random cases themselves: that no outcome hangs on the processor, that rules are whole, that
the order of authority is kept, and that docs/disagreements.md is the table of the rules.

onnxruntime multiplies bytes in pairs that saturate on processors without VNNI. Here its results are made to saturate,
as there, and nothing may change. Ends with the line `N passed, N failed, N skipped`. Needs no program; run it with the
python that `tools/python-env test` prints. `--write` writes docs/disagreements.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import differential
from operator_cases import Case, NotApplicable, draw, exact, oracles
from operator_cases.judgement import judge
from operator_cases.rules import RULES, Authority, Rule, table
from operator_cases.tolerances import BY_OPERATOR

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "disagreements.md"
DRAWS = 120
HEADING = """# Where the specification, the reference evaluator and ONNX Runtime disagree

The rules by which random cases of operators are judged, as `tools/differential.py --rules` prints them. Two oracles
that agree are right unless a rule on the authority of the specification (normative text, function body, ONNX's own
data) says otherwise; where they differ, the highest authority decides: normative text, function body, ONNX's own data,
both oracles (readings of a text that can be read in two ways), onnxruntime for com.microsoft and ai.onnx.ml, the
reference evaluator.

"""


# Saturation


def pair_sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A product of unsigned by signed bytes whose pairs of products saturate in 16 bits, less the exact product."""
    k = a.shape[-1]
    left = np.pad(a.astype(np.int64), [(0, 0)] * (a.ndim - 1) + [(0, k % 2)])
    right = np.pad(b.astype(np.int64), [(0, 0)] * (b.ndim - 2) + [(0, k % 2), (0, 0)])
    total: Any = 0
    for first in range(0, k + k % 2, 2):
        pair = np.matmul(left[..., first : first + 2], right[..., first : first + 2, :])
        total = total + np.clip(pair, -(2**15), 2**15 - 1) - pair
    return total


def lost(case: Case) -> np.ndarray | float:
    """What a processor without VNNI loses of a product of the case, before its scales."""
    first, second = exact.PRODUCTS[case.domain, case.op]
    a, b = case.operand(first), case.operand(second)
    a, b = a.T if case.attribute("transA", 0) else a, b.T if case.attribute("transB", 0) else b
    if b.dtype != np.int8 or not a.size or not b.size or min(a.ndim, b.ndim) < 2:
        return 0.0
    return pair_sums(a.astype(np.int64) + (128 if a.dtype == np.int8 else 0), b)


def saturating(case: Case) -> list[Any]:
    """onnxruntime's results as a processor without VNNI gives them."""
    results = ONNXRUNTIME(case)
    scale: Any = 1.0
    if case.op == "MatMulIntegerToFloat":
        scale = exact.number(case, 2) * exact.number(case, 3)
    elif case.op == "QGemm":
        scale = exact.number(case, 1) * exact.number(case, 4) * case.attribute("alpha", 1.0)
        if case.operand(7) is not None:
            return results
    return [(results[0] + lost(case) * scale).astype(results[0].dtype), *results[1:]]


ONNXRUNTIME = oracles.onnxruntime_results


@contextmanager
def replaced(target: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, original)


def draws(domain: str, op: str) -> Iterator[Case]:
    """Cases without empty tensors, which bring some versions of onnxruntime down."""
    for index in range(DRAWS):
        try:
            case = draw(np.random.default_rng([11, index]), op, domain)
        except NotApplicable:
            continue
        if all(value.size for value in case.values_by_name.values()):
            yield case


def check_saturation() -> Iterator[tuple[str, bool]]:
    """A saturating onnxruntime changes nothing; without the gate it would."""
    for domain, op in (("", "MatMulInteger"), (exact.MS, "MatMulIntegerToFloat"), (exact.MS, "QGemm")):
        cases = list(draws(domain, op))
        with replaced(oracles, "onnxruntime_results", saturating):
            kinds = {judge(case, oracles.run_all(case)[0]).kind for case in cases}
        heard = [case for case in cases if not exact.may_saturate(case)]
        yield f"{op} of a saturating onnxruntime has nothing unexplained", "UNEXPLAINED" not in kinds
        yield (
            f"{op}: some products would saturate, and are not asked for",
            any(exact.may_saturate(case) and np.any(lost(case)) for case in cases),
        )
        yield f"{op}: none of those that are asked for saturates", not any(np.any(lost(case)) for case in heard)
        yield f"{op}: onnxruntime is heard in {len(heard)} of {len(cases)} cases", len(heard) * 4 > len(cases)


def check_exactness() -> Iterator[tuple[str, bool]]:
    """Every operator that multiplies bytes has an expectation of its own."""
    for key in sorted(exact.PRODUCTS):
        yield f"{key[1]} has an exact expectation", key in exact.EXACT


# Rules


def check_rules() -> Iterator[tuple[str, bool]]:
    for entry in RULES:
        problem = entry.problem()
        yield f"the rule of {', '.join(entry.operators)}: {problem or 'whole'}", problem is None
    for entry in BY_OPERATOR:
        yield f"the tolerance of {entry.operators} has a reason", bool(entry.reason)


def check_authority() -> Iterator[tuple[str, bool]]:
    """The order of authority, on a case whose results and rules are made up."""
    case = next(draws("", "Neg"))
    ours = oracles.run_reference(case)
    theirs = [np.asarray(array + 1).astype(array.dtype) for array in ours]
    agreed, differing = {"reference": ours, "onnxruntime": ours}, {"reference": ours, "onnxruntime": theirs}

    def kind(authority: Authority | None, results: dict[str, Any], **fields: Any) -> tuple[str, bool]:
        entries = [] if authority is None else [Rule(("Neg",), authority, "Made up.", "here", **fields)]
        RULES.extend(entries)
        try:
            judgement = judge(case, results)
        finally:
            del RULES[len(RULES) - len(entries) :]
        return judgement.kind, judgement.overrules

    yield "oracles that agree are right", kind(None, agreed) == ("agreed", False)
    yield "the text overrules them", kind(Authority.TEXT, agreed, expected=lambda case: theirs) == ("rule", True)
    yield (
        "lower authorities do not",
        all(
            kind(authority, agreed, expected=lambda case: theirs) == ("agreed", False)
            for authority in list(Authority)[3:]
        ),
    )
    yield "a rule decides between them", kind(Authority.ONNXRUNTIME, differing, right="onnxruntime") == ("rule", False)
    yield "a difference without a rule is unexplained", kind(None, differing)[0] in ("UNEXPLAINED", "precise")


def check_shards() -> Iterator[tuple[str, bool]]:
    def chosen(*shard: int) -> list[tuple[str, str]]:
        return differential.wanted(argparse.Namespace(operators=[], domain=None, family=None, shard=shard))

    parts = [pair for number in range(1, 4) for pair in chosen(number, 3)]
    yield "three shards have every operator once", sorted(parts) == sorted(chosen(1, 1))


def document() -> str:
    return HEADING + "\n".join(table()) + "\n"


def check_document() -> Iterator[tuple[str, bool]]:
    name = f"{DOCUMENT.parent.name}/{DOCUMENT.name} has the rules (tools/check_oracles.py --write)"
    yield name, DOCUMENT.exists() and DOCUMENT.read_text() == document()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/disagreements.md and end")
    if parser.parse_args().write:
        DOCUMENT.write_text(document())
        return 0
    np.seterr(all="ignore")
    checks = (check_saturation, check_exactness, check_rules, check_authority, check_shards, check_document)
    found = [result for check in checks for result in check()]
    failures = [name for name, passed in found if not passed]
    for name in failures:
        print(f"FAILED {name}")
    print(f"{len(found) - len(failures)} passed, {len(failures)} failed, 0 skipped")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
