"""Explained disagreements on tensors, sequences, control flow and text."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from .case import Case
from .known_differences import DIFFERENCES, KnownDifference


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


def loop_beyond_reference(case: Case) -> bool:
    """Whether a Loop has no first condition, or outputs of every iteration."""
    names = case.under_test.input
    return len(names) < 2 or not names[1] or len(case.under_test.output) > max(len(names) - 2, 0)


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


DIFFERENCES += [
    KnownDifference(
        ("NonZero",),
        "reference",
        "NonZero of a scalar has the shape [0, n]; ONNX Runtime takes it for a vector.",
        lambda case: case.operand(0).ndim == 0,
    ),
    KnownDifference(
        ("Gather",),
        "reference",
        "Gather of strings: ONNX Runtime copies the first element of a slice only.",
        lambda case: case.operand(0).dtype == object,
    ),
    KnownDifference(
        ("Shape",),
        "onnxruntime",
        "Shape: start and end are clamped to the axes; the reference evaluator counts them twice.",
        counts_from_before,
        discards=True,
    ),
    KnownDifference(
        ("Trilu",),
        "specification",
        "Trilu of strings: empty strings stand for zeros; the reference evaluator has the text 0.",
        lambda case: case.operand(0).dtype == object,
        expected=triangle,
    ),
    KnownDifference(
        ("Unsqueeze",),
        "onnxruntime",
        "Unsqueeze: the order of axes does not matter; the reference evaluator goes one by one.",
        lambda case: case.version < 13
        and any(a > b or (a < 0) != (b < 0) or a < 0 for a, b in pairwise(case.attribute("axes"))),
        discards=True,
    ),
    KnownDifference(
        ("Slice",),
        "specification",
        "Slice: a start before the first element is moved to it, also with a negative step, where NumPy's slice is"
        " empty. Backwards to an end beyond the largest 32-bit number is empty; ONNX Runtime takes it for no end.",
        lambda case: starts_before(case) or ends_behind(case),
        expected=sliced,
    ),
    KnownDifference(
        ("Squeeze",),
        "reference",
        "Squeeze with an empty list of axes changes nothing; ONNX Runtime takes it for no list.",
        lambda case: case.operand(1) is not None and case.operand(1).size == 0,
    ),
    KnownDifference(
        ("Unique",),
        "onnxruntime",
        "Unique that is not sorted takes slices along its axis, and without one makes a vector of an empty tensor too;"
        " the reference evaluator takes slices along axis 0.",
        lambda case: (
            case.attribute("sorted", 1) == 0 and (case.attribute("axis") is not None or case.operand(0).size == 0)
        ),
        discards=True,
    ),
    KnownDifference(
        ("Optional", "OptionalGetElement", "OptionalHasElement"),
        "specification",
        "An optional holds its element; the reference evaluator makes a list of it, and none that is empty.",
        made_optional,
        expected=optional_results,
    ),
    KnownDifference(
        ("If",),
        "onnxruntime",
        "An optional holds its element; the reference evaluator makes a list of it, and none that is empty.",
        lambda case: any(info.type.HasField("optional_type") for info in case.outputs),
        discards=True,
    ),
    KnownDifference(
        ("SequenceInsert",),
        "onnxruntime",
        "SequenceInsert at the position that follows the last element appends; the reference evaluator inserts at"
        " the front.",
        is_end,
        discards=True,
    ),
    KnownDifference(
        ("SplitToSequence",),
        "reference",
        "SplitToSequence with given lengths ignores keepdims; ONNX Runtime does not.",
        lambda case: case.operand(1) is not None and case.attribute("keepdims", 1) == 0,
    ),
    KnownDifference(
        ("Loop",),
        "onnxruntime",
        "Loop without a first condition runs; outputs of iterations are stacked along a new axis, also if there are"
        " none. The reference evaluator does not run, stacks as numpy.vstack does, and fails.",
        loop_beyond_reference,
        discards=True,
    ),
    KnownDifference(
        ("Scan",),
        "onnxruntime",
        "Scan of version 8 has a batch axis; the reference evaluator has none.",
        lambda case: case.version == 8,
        discards=True,
    ),
    KnownDifference(
        ("Pad",),
        "onnxruntime",
        "Pad of strings fills with empty ones by default; the reference evaluator has the text 0.",
        lambda case: case.operand(0) is not None and case.operand(0).dtype == object,
        discards=True,
    ),
    KnownDifference(
        ("Scan",),
        "onnxruntime",
        "Scan: the reference evaluator takes no axis but 0, and negative ones for that.",
        lambda case: min([*case.attribute("scan_input_axes", [0]), *case.attribute("scan_output_axes", [0])]) < 0,
        discards=True,
    ),
    KnownDifference(
        ("RegexFullMatch",),
        "onnxruntime",
        "RegexFullMatch has the syntax of RE2, whose \\d, \\w and \\s are ASCII; the reference evaluator uses"
        " Python's re.",
        discards=True,
    ),
    KnownDifference(
        ("StringNormalizer",),
        "onnxruntime",
        "StringNormalizer removes stop words that are whole elements, and no accents; the reference evaluator"
        " removes accents, empty strings, and stop words inside of strings.",
        discards=True,
    ),
    KnownDifference(
        ("StringSplit",),
        "specification",
        "StringSplit of the empty string at a delimiter is one empty string. Without a delimiter all white space"
        " separates, not spaces alone as in ONNX Runtime, and none is left at the end, as by the reference"
        " evaluator.",
        splits_oddly,
        expected=pieces,
    ),
    KnownDifference(
        ("TfIdfVectorizer",),
        "onnxruntime",
        "TfIdfVectorizer: the i-th weight is that of the i-th n-gram; the reference evaluator gives it to the i-th"
        " output.",
        lambda case: case.attribute("weights") is not None,
    ),
]
