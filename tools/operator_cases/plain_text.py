"""StringNormalizer in Python, with case by Unicode's full mappings, whatever locales the machine has; numbers as
text."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .case import Case


def normalized_strings(case: Case) -> list[np.ndarray]:
    """Elements without those that are stop words, in lower or upper case; one empty string where none is left."""
    data = case.operand(0)
    words = data.ravel().tolist()
    stop = {word.decode() if isinstance(word, bytes) else word for word in case.attribute("stopwords") or []}
    if case.attribute("is_case_sensitive", 0):
        words = [word for word in words if word not in stop]
    else:
        stop = {word.lower() for word in stop}
        words = [word for word in words if word.lower() not in stop]
    change = {"LOWER": str.lower, "UPPER": str.upper}.get(case.attribute("case_change_action", "NONE"), str)
    result = np.array([change(word) for word in words] or [""], object)
    return [result.reshape(1, -1) if data.ndim == 2 else result]


def writes_floats(case: Case) -> bool:
    """Whether floats become strings."""
    target = case.attribute("to") == TensorProto.STRING if case.op == "Cast" else case.operand(1).dtype == object
    data = case.operand(0)
    return target and data.dtype != object and data.dtype.kind not in "iub" and "int" not in data.dtype.name


def plain_decimals(case: Case) -> list[np.ndarray]:
    """The shortest digits that identify each number, without an exponent and with at least one digit behind the
    point."""
    data = case.operand(0)
    if data.dtype.name not in ("float16", "float32", "float64"):
        data = data.astype(np.float32)
    words = [np.format_float_positional(number, unique=True, trim="0") for number in data.ravel()]
    return [np.array(words, object).reshape(data.shape)]
