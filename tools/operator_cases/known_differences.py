"""Explained disagreements: which oracle is right where the two differ. The reasons stand in docs/numerics.md too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .case import Case


@dataclass(frozen=True)
class KnownDifference:
    """Cases of operators on which at least one oracle is wrong.

    right: "reference" or "onnxruntime", where that one is to be followed, or "specification", where neither is: then
    `expected` computes the outputs, or, without it, only their types and shapes are compared. An entry counts where the
    oracles differ or the wrong one is the only one; one of "specification" wherever it applies.
    """

    operators: tuple[str, ...]
    right: str
    reason: str
    applies: Callable[[Case], bool] = lambda case: True
    domain: str = ""
    expected: Callable[[Case], list[Any]] | None = None


DIFFERENCES: list[KnownDifference] = [
]


def known_difference(case: Case) -> KnownDifference | None:
    """The first entry that applies to the case."""
    for entry in DIFFERENCES:
        if case.op in entry.operators and case.domain == entry.domain and entry.applies(case):
            return entry
    return None
