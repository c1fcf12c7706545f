"""StringNormalizer in Python; case by Unicode's full mappings, whatever locales the machine has."""

from __future__ import annotations

import numpy as np

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
