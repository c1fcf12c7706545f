"""What is known of single cases, as patterns of their names (fnmatch) with a reason in writing."""

from __future__ import annotations

from fnmatch import fnmatchcase

# Cases that may stay below 0.9 of onnxruntime's speed.
SLOWER: dict[str, str] = {}

# Cases whose results differ from onnxruntime's beyond the tolerance, and who is right.
DIFFERENT: dict[str, str] = {}


def reason(table: dict[str, str], name: str) -> str | None:
    return next((text for pattern, text in table.items() if fnmatchcase(name, pattern)), None)
