"""What is known of single cases, as patterns of their names (fnmatch) with a reason in writing."""

from __future__ import annotations

from fnmatch import fnmatchcase

# Cases that may stay below 0.9 of onnxruntime's speed.
SLOWER: dict[str, str] = {
    "Conv f32 stem 7x7 s2 224": "three quarters of the time are the product, at 146 billion operations a second; "
    "a fifth turns outputs into planes",
    "FusedMatMul f32 transB 12x128x64x128": "one step, nearly all of it the product: MatMul of "
    "the same sizes is at 0.95, and packing B turned takes the rest",
    "Col2Im f32 3x3 64 28": "lines of 28 elements are added to lines in memory, nine onto each",
    "AffineGrid f32 8 of 64": "87 % of the time goes to points, which are computed in float64 and rounded once",
    "LinearClassifier f32 1000 rows": "46 % of the time goes to products of rows, 28 % to softmax, which is in float64",
}

# Cases whose results differ from onnxruntime's beyond the tolerance, and who is right.
DIFFERENT: dict[str, str] = {}


def reason(table: dict[str, str], name: str) -> str | None:
    return next((text for pattern, text in table.items() if fnmatchcase(name, pattern)), None)
