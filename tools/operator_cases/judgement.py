"""What is expected of a case, out of what the oracles say of it and the rules that apply to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from . import oracles
from .case import Case
from .rules import RULES, rules_of

Results = dict[str, list[Any]]


@dataclass
class Judgement:
    """The expectation of a case.

    kind: "agreed" (several oracles say the same), the name of the only one that computes it, "rule", "precise" (more
    digits of the reference evaluator), or "UNEXPLAINED".
    expected: outputs by the name of who says so, several only where nothing explains the difference. rule: the place in
    RULES of the rule that decided, or that records how the text is read. overrules: whether it stands against oracles
    that agree.
    """

    kind: str
    expected: Results
    detail: str = ""
    rule: int | None = None
    overrules: bool = False
    records: list[int] = field(default_factory=list)


def disagreement(case: Case, results: Results) -> str | None:
    """How two of the oracles differ; None if none do."""
    for first, second in combinations(results, 2):
        if text := oracles.difference(case, results[second], results[first]):
            return f"{second} against {first}, {text}"
    return None


def judge(case: Case, results: Results) -> Judgement:
    """The judgement. Refusal where nobody who may speak computes the case."""
    applying = rules_of(case)
    records = [index for index in applying if RULES[index].records]
    dispute = disagreement(case, results)
    if dispute is None and len(results) > 1:
        own = computed(case, [index for index in applying if RULES[index].decides])
        if own is None or not differs(case, own[1], results):
            return Judgement("agreed", first_of(results), records=records)
        return Judgement("rule", {"rule": own[1]}, RULES[own[0]].reason, own[0], overrules=True)
    refusals = []
    for index in applying:
        try:
            if (judgement := decided(case, results, index)) is not None:
                return judgement
        except oracles.Refusal as refusal:
            refusals.append(refusal)
    if refusals or not results:
        raise refusals[0] if refusals else oracles.Refusal("no oracle computes it")
    if len(results) == 1:
        return Judgement(next(iter(results)), dict(results), records=records)
    if finer := decided_by_precision(case, results):
        return finer
    return Judgement("UNEXPLAINED", dict(results), dispute or "")


def decided(case: Case, results: Results, index: int) -> Judgement | None:
    """What a rule makes of results that differ, of a single one, or of none; None where it has nothing to say. Refusal
    where the only result is that of an oracle which the rule does not follow."""
    entry = RULES[index]
    if entry.expected is not None:
        own = computed(case, [index])
        if own is None:
            return None
        if len(results) == 1 and not differs(case, own[1], results):
            return Judgement(next(iter(results)), dict(results))
        return Judgement("rule", {"rule": own[1]}, entry.reason, index)
    if entry.right is None or not results:
        return None
    if entry.right not in results:
        raise oracles.Refusal(entry.reason)
    if len(results) == 1:
        return Judgement(entry.right, dict(results))
    return Judgement("rule", {entry.right: results[entry.right]}, entry.reason, index)


def computed(case: Case, indices: list[int]) -> tuple[int, list[Any]] | None:
    """The first of the rules that computes the case, with its outputs. NotApplicable where one says that the case means
    nothing."""
    for index in indices:
        try:
            return index, RULES[index].expected(case)
        except oracles.Refusal:
            continue
    return None


def decided_by_precision(case: Case, results: Results) -> Judgement | None:
    """Where two oracles differ in the precision of float32 or less: what the reference evaluator gives in float64, if
    one of them comes as near to it as the tolerance asks."""
    try:
        wide = oracles.run_wide(case)
    except oracles.Refusal:
        return None
    for outputs in results.values():
        if oracles.difference(case, outputs, wide) is None:
            return Judgement("precise", {"precise": wide})
    return None


def differs(case: Case, own: list[Any], results: Results) -> bool:
    return any(oracles.difference(case, outputs, own) is not None for outputs in results.values())


def first_of(results: Results) -> Results:
    """What to compare with where all agree: exact integers of NumPy before the reference evaluator's numbers."""
    name = next(name for name in ("numpy", "reference", "onnxruntime") if name in results)
    return {name: results[name]}
