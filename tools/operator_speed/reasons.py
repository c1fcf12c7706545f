"""What is known of single cases, as patterns of their names (fnmatch) with a reason in writing."""

from __future__ import annotations

from fnmatch import fnmatchcase

# Cases that may stay below 0.9 of onnxruntime's speed.
SLOWER: dict[str, str] = {
    "Conv f32 stem 7x7 s2 224": "three quarters of the time are the product, at 146 billion operations a second; "
    "a fifth turns outputs into planes",
    "FusedMatMul f32 transB 12x128x64x128": "one step, nearly all of it the product: MatMul of "
    "the same sizes is at 0.95, and packing B turned takes the rest",
    "Col2Im f32 3x3 64 28": "lines of 28 elements are added to lines in memory, nine onto each; kernels for lines, or "
    "for two at a time, take longer",
    "Attention f32 1x128x768": "two thirds of the time are products, at the pace of MatMul of these sizes, a fifth is "
    "softmax, a ninth packs keys and values",
    "MultiHeadAttention f32 1x128x768": "as Attention of these sizes",
    "ConvTranspose f32 2x2 s2 *": "four fifths of the time are the product, a tenth turns planes",
    "Conv f32 depthwise 5x5 s2 72 56": "57 % of the time parts planes by the stride, 35 % are the sums",
    "MaxPool f16 3x3 s2 64 112": "41 % of the time parts planes by the stride, as in float32, and 39 % turns types",
    "QLinearConv u8 per channel 1x1 96 to 24 56": "57 % of the time is the product, whose panels of 32 columns hold "
    "24, and 27 % turns planes",
    "Exp f32 98k": "all of it is the kernel: two elements a nanosecond, with an error of at most 1.2 units of the last "
    "place",
    "Softmax f32 6000x33": "all of it is the kernel; a row of 33 elements takes three vectors",
    "Resize f32 nearest asymmetric x2 64 56": "all of it copies elements one by one to where they belong",
    "AffineGrid f32 8 of 64": "87 % of the time goes to points, which are computed in float64 and rounded once",
    "LinearClassifier f32 1000 rows": "46 % of the time goes to products of rows, 28 % to softmax, which is in float64",
}

# Cases whose results differ from onnxruntime's beyond the tolerance, and who is right.
DIFFERENT: dict[str, str] = {}


def reason(table: dict[str, str], name: str) -> str | None:
    return next((text for pattern, text in table.items() if fnmatchcase(name, pattern)), None)
