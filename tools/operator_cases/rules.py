"""Rules: which oracle is right where they differ, or what to compute where none is, each with its authority and source.

The order of authority is that of `Authority`. What two oracles say alike stands unless a rule of the first three
levels, which are those of the specification itself, says otherwise. The modules known_differences* fill `RULES`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .case import Case

ORACLES = ("reference", "onnxruntime", "numpy")


class Authority(enum.IntEnum):
    """Who decides, the highest first."""

    TEXT = 1  # the normative text of the specification: a schema's documentation, IEEE 754 where it is silent
    BODY = 2  # the function body of a schema
    DATA = 3  # the cases of the ONNX backend suite and what ONNX's shape inference says
    AGREEMENT = 4  # both oracles, where the text can be read in two ways
    ONNXRUNTIME = 5  # for com.microsoft and ai.onnx.ml, and for what it alone computes
    REFERENCE = 6  # the reference evaluator

    @property
    def title(self) -> str:
        return (
            "normative text",
            "function body",
            "ONNX's own data",
            "both oracles",
            "onnxruntime",
            "reference evaluator",
        )[self - 1]


@dataclass(frozen=True)
class Rule:
    """What holds for some cases of some operators.

    reason: what holds, and who says otherwise. source: where that is said. right: the oracle that is followed, or None
    where `expected` computes the outputs. Without either the rule only records how both oracles read the text, and must
    be of the level AGREEMENT.
    """

    operators: tuple[str, ...]
    authority: Authority
    reason: str
    source: str
    right: str | None = None
    applies: Callable[[Case], bool] = lambda case: True
    domain: str = ""
    expected: Callable[[Case], list[Any]] | None = None

    @property
    def decides(self) -> bool:
        """Whether the rule stands above two oracles that agree."""
        return self.authority <= Authority.DATA and self.expected is not None

    @property
    def records(self) -> bool:
        """Whether the rule decides nothing and only says how both oracles read the text."""
        return self.right is None and self.expected is None

    def problem(self) -> str | None:
        """What is wrong with the rule itself; None if nothing is."""
        if not self.operators or not self.reason.strip().endswith(".") or not self.source.strip():
            return "operators, a reason that is a sentence, and a source are needed"
        if self.right is not None and (self.right not in ORACLES or self.expected is not None):
            return f"right is one of {', '.join(ORACLES)}, or there is an expectation"
        if self.records and self.authority != Authority.AGREEMENT:
            return "a rule that decides nothing is of the level of both oracles"
        if self.authority == Authority.REFERENCE and self.right not in ("reference", None):
            return "on the authority of the reference evaluator another one is followed"
        if self.authority == Authority.ONNXRUNTIME and self.right == "reference":
            return "on the authority of onnxruntime the reference evaluator is followed"
        return None


RULES: list[Rule] = []


def rule(
    operators: str,
    authority: Authority,
    reason: str,
    source: str,
    applies: Callable[[Case], bool] | None = None,
    *,
    right: str | None = None,
    expected: Callable[[Case], list[Any]] | None = None,
    domain: str = "",
) -> None:
    """Adds a rule; `operators` are names with spaces between them."""
    always = applies or (lambda case: True)
    RULES.append(Rule(tuple(operators.split()), authority, reason, source, right, always, domain, expected))


def rules_of(case: Case) -> list[int]:
    """The places in RULES of what applies to the case, the highest authority first, else in order."""
    found = [
        index
        for index, entry in enumerate(RULES)
        if case.domain == entry.domain and case.op in entry.operators and entry.applies(case)
    ]
    return sorted(found, key=lambda index: RULES[index].authority)


def table() -> list[str]:
    """The rules in Markdown, sorted by domain and operator."""
    lines = ["| Operators | Authority | What holds | Source |", "|---|---|---|---|"]
    for entry in sorted(RULES, key=lambda entry: (entry.domain, entry.operators)):
        domain = f" ({entry.domain})" if entry.domain else ""
        cells = (", ".join(entry.operators) + domain, entry.authority.title, entry.reason, entry.source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines
