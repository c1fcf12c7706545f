"""The cases of tools/bench_operators.py, one file a family of operators; how they are measured and reported."""

from __future__ import annotations

from importlib import import_module

from operator_speed.case import Case

TOPICS = (
    "elementwise",
    "reduction",
    "normalization",
    "movement",
    "matrix",
    "quantization",
    "convolution",
    "image",
    "attention",
    "recurrent",
    "signal",
    "classical",
)


def all_cases() -> list[Case]:
    """Every case, each name once."""
    found = [case for topic in TOPICS for case in import_module(f"operator_speed.{topic}").cases()]
    names = [case.name for case in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two cases are called {sorted(twice)}")
    return found
