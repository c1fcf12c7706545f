"""Rules of tensors, sequences, control flow and text; see rules.py."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from .case import Case
from .known_differences import DATA, ONNXRUNTIME, REFERENCE, TEXT
from .plain_control import loop
from .plain_text import normalized_strings, plain_decimals, writes_floats
from .rules import rule


def starts_before(case: Case) -> bool:
    """Whether a Slice goes backwards from before the first element."""
    shape, starts, steps = case.operand(0).shape, case.operand(1), case.operand(4)
    if steps is None:
        return False
    axes = range(len(starts)) if case.operand(3) is None else case.operand(3)
    return any(step < 0 and start < -shape[axis] for start, axis, step in zip(starts, axes, steps))


def ends_behind(case: Case) -> bool:
    """Whether a Slice goes backwards to an end beyond the largest 32-bit number."""
    ends, steps = case.operand(2), case.operand(4)
    return steps is not None and any(step < 0 and end >= 2**31 - 1 for end, step in zip(ends, steps))


def sliced(case: Case) -> list[np.ndarray]:
    """Slice with steps."""
    data, starts, ends, axes, steps = (case.operand(index) for index in range(5))
    axes = range(len(starts)) if axes is None else axes
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes, steps.tolist()):
        extent = data.shape[axis]
        low, high = (-1, extent - 1) if step < 0 else (0, extent)
        start, end = (place + extent if place < 0 else place for place in (start, end))
        places = range(min(max(start, 0), high), min(max(end, low), high), step) if extent else []
        data = np.take(data, np.array(places, np.int64), axis)
    return [data]


def counts_from_before(case: Case) -> bool:
    """Whether start or end of a Shape is farther from the end than there are axes."""
    rank = case.operand(0).ndim
    return min(case.attribute("start", 0), case.attribute("end", 0)) < -rank


def triangle(case: Case) -> list[np.ndarray]:
    """Trilu of strings."""
    data, k = case.operand(0), case.operand(1)
    rows, columns = np.indices(data.shape[-2:])
    offset = columns - rows - (0 if k is None else int(k))
    kept = offset >= 0 if case.attribute("upper", 1) else offset <= 0
    return [np.where(kept, data, "").astype(object)]


def made_optional(case: Case) -> bool:
    return case.nodes[0].op_type == "Optional"


def optional_results(case: Case) -> list[Any]:
    """What comes out of an Optional and what asks it."""
    names = case.nodes[0].input
    value = case.values_by_name[names[0]] if names else None
    filled = np.array(bool(names))
    if case.op == "Optional":
        return [filled, value] if names else [filled]
    return [filled] if case.op == "OptionalHasElement" else [value]


def is_unconditional(case: Case) -> bool:
    """Whether a Loop has no first condition."""
    names = case.under_test.input
    return len(names) < 2 or not names[1]


def has_scan_outputs(case: Case) -> bool:
    """Whether a Loop has outputs of every iteration."""
    return len(case.under_test.output) > max(len(case.under_test.input) - 2, 0)


def is_text(case: Case) -> bool:
    value = case.operand(0)
    return isinstance(value, np.ndarray) and value.dtype == object


def padded(case: Case) -> list[np.ndarray]:
    """Pad of strings; negative widths remove elements."""
    data = case.operand(0)
    widths = np.asarray(case.operand(1) if case.version >= 11 else case.attribute("pads")).reshape(2, -1)
    axes = case.operand(3) if case.version >= 18 and case.operand(3) is not None else range(data.ndim)
    mode, fill = case.attribute("mode", "constant"), case.operand(2)
    for axis, (before, after) in zip(axes, widths.T.tolist(), strict=True):
        start, end = max(0, -before), data.shape[axis] - max(0, -after)
        data = np.take(data, np.arange(start, max(start, end)), axis)
        pairs = [(0, 0)] * data.ndim
        pairs[axis] = (max(0, before), max(0, after))
        if mode == "constant":
            value = "" if fill is None else str(np.ravel(fill)[0])
            data = np.pad(data, pairs, constant_values=value)
        else:
            data = np.pad(data, pairs, mode=mode)
    return [data]


def splits_oddly(case: Case) -> bool:
    texts = case.operand(0).ravel().tolist()
    if case.attribute("delimiter"):
        return "" in texts
    return any(character.isspace() for text in texts for character in text)


def pieces(case: Case) -> list[np.ndarray]:
    """StringSplit."""
    data, delimiter, limit = case.operand(0), case.attribute("delimiter"), case.attribute("maxsplit", -1)
    found = [
        text.split(delimiter, limit) if delimiter else text.strip().split(None, limit) for text in data.ravel().tolist()
    ]
    width = max(map(len, found), default=0)
    padded = [part for parts in found for part in parts + [""] * (width - len(parts))]
    counts = np.array(list(map(len, found)), np.int64).reshape(data.shape)
    return [np.array(padded, object).reshape(*data.shape, width), counts]


def is_end(case: Case) -> bool:
    return case.operand(2) is not None and int(case.operand(2)) == len(case.operand(0))


# Tensors

rule(
    "NonZero",
    TEXT,
    "Of a scalar it has the shape [0, n]; onnxruntime takes the scalar for a vector.",
    "NonZero-13, scalar input",
    lambda case: case.operand(0).ndim == 0,
    right="reference",
)
rule(
    "Gather",
    TEXT,
    "Of strings every element of a slice is copied; onnxruntime copies the first one only.",
    "Gather-13, type constraint T",
    is_text,
    right="reference",
)
rule(
    "Shape",
    TEXT,
    "start and end are clamped to the axes; the reference evaluator counts them from the end twice.",
    "Shape-15, attributes start and end",
    counts_from_before,
    right="onnxruntime",
)
rule(
    "Trilu",
    ONNXRUNTIME,
    "Of strings empty ones stand for zeros; the reference evaluator puts the text 0.",
    "the text of Trilu-14 speaks of zeros only; Pad-25 names the empty string as the zero of strings",
    is_text,
    expected=triangle,
)
rule(
    "Pad",
    TEXT,
    "Strings are filled with empty ones by default; the reference evaluator has the text 0.",
    "Pad-25, input constant_value",
    is_text,
    expected=padded,
)
rule(
    "Unsqueeze",
    TEXT,
    "The order of the axes does not matter; the reference evaluator goes one by one.",
    "Unsqueeze-11, attribute axes",
    lambda case: (
        case.version < 13 and any(a > b or (a < 0) != (b < 0) or a < 0 for a, b in pairwise(case.attribute("axes")))
    ),
    right="onnxruntime",
)
rule(
    "Slice",
    TEXT,
    "A start before the first element is moved to it, with a negative step too, where NumPy's slice is empty."
    " Backwards to"
    " an end beyond the largest 32-bit number is empty; onnxruntime takes it for no end.",
    "Slice-13: how starts and ends are clamped",
    lambda case: starts_before(case) or ends_behind(case),
    expected=sliced,
)
rule(
    "Squeeze",
    TEXT,
    "An empty list of axes is a list and changes nothing; onnxruntime takes it for none.",
    "Squeeze-13, input axes: all single dimensions go where it is not provided",
    lambda case: case.operand(1) is not None and case.operand(1).size == 0,
    right="reference",
)
rule(
    "Unique",
    TEXT,
    "Without sorting slices are taken along the axis, and without an axis the result is a vector, of an empty tensor"
    " too;"
    " the reference evaluator takes slices along axis 0.",
    "Unique-11, attribute axis and output Y",
    lambda case: case.attribute("sorted", 1) == 0 and (case.attribute("axis") is not None or case.operand(0).size == 0),
    right="onnxruntime",
)

# Sequences and optionals

rule(
    "Optional OptionalGetElement OptionalHasElement",
    TEXT,
    "An optional holds its element; the reference evaluator makes a list of it, and takes none for empty.",
    "Optional-15, OptionalGetElement-18, OptionalHasElement-18",
    made_optional,
    expected=optional_results,
)
rule(
    "If",
    TEXT,
    "An optional holds its element; the reference evaluator makes a list of it, and none that is empty.",
    "Optional-15",
    lambda case: any(info.type.HasField("optional_type") for info in case.outputs),
    right="onnxruntime",
)
rule(
    "SequenceInsert",
    TEXT,
    "At the position that follows the last element it appends; the reference evaluator inserts at the front.",
    "SequenceInsert-11, input position: up to n",
    is_end,
    right="onnxruntime",
)
rule(
    "SplitToSequence",
    TEXT,
    "With given lengths keepdims is ignored; onnxruntime obeys it.",
    "SplitToSequence-24, attribute keepdims",
    lambda case: case.operand(1) is not None and case.attribute("keepdims", 1) == 0,
    right="reference",
)

# Control flow

rule(
    "Loop",
    TEXT,
    "Without a first condition those of the body do not count; onnxruntime obeys them, the reference evaluator does not"
    " run.",
    'Loop-25: input (trip_count, "") ignores cond',
    is_unconditional,
    expected=loop,
)
rule(
    "Loop",
    TEXT,
    "Outputs of iterations are stacked along a new axis, also if there were none; the reference evaluator stacks as"
    " numpy.vstack does, and fails.",
    "Loop-25, scan_outputs: Scan-25 says that they are concatenated along a new axis",
    has_scan_outputs,
    expected=loop,
)
rule(
    "Scan",
    TEXT,
    "Version 8 has a batch axis; the reference evaluator has none.",
    "Scan-8, inputs and outputs",
    lambda case: case.version == 8,
    right="onnxruntime",
)
rule(
    "Scan",
    TEXT,
    "Slices go along any axis, counted from the end too; the reference evaluator takes negative ones for 0.",
    "Scan-11, attributes scan_input_axes and scan_output_axes",
    lambda case: min([*case.attribute("scan_input_axes", [0]), *case.attribute("scan_output_axes", [0])]) < 0,
    right="onnxruntime",
)

# Text

rule(
    "Cast CastLike",
    TEXT,
    "Floats become strings without an exponent; both oracles write one for large and small numbers.",
    "Cast-25: plain floating-point representation would be used",
    writes_floats,
    expected=plain_decimals,
)
rule(
    "RegexFullMatch",
    TEXT,
    "The syntax is that of RE2, whose \\d, \\w and \\s are ASCII; the reference evaluator uses Python's re.",
    "RegexFullMatch-20, attribute pattern",
    right="onnxruntime",
)
rule(
    "StringNormalizer",
    TEXT,
    "Stop words are removed that are whole elements, and no accents; the reference evaluator removes accents, empty"
    " strings, and stop words inside of strings.",
    "StringNormalizer-10: step one removes elements",
    expected=normalized_strings,
)
rule(
    "StringSplit",
    TEXT,
    "The empty string at a delimiter is one empty string. Without a delimiter all white space separates, not spaces"
    " alone"
    " as in onnxruntime, and none is left at the end, as by the reference evaluator.",
    "StringSplit-20, delimiter: consecutive delimiters delimit empty strings, white space is removed at both ends",
    splits_oddly,
    expected=pieces,
)
rule(
    "TfIdfVectorizer",
    TEXT,
    "The i-th weight is that of the i-th n-gram; the reference evaluator gives it to the i-th output.",
    "TfIdfVectorizer-9, attribute weights",
    lambda case: case.attribute("weights") is not None,
    right="onnxruntime",
)
