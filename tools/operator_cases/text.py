"""Operators on strings."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .case import Case, generator
from .tensor import numpy_type

WORDS = (
    "",
    "a",
    "b",
    "ab",
    "Ab",
    "AB",
    "monday",
    "Monday",
    "MONDAY",
    "the",
    "The",
    "a b",
    "x y z",
    "1",
    "ÄÖ",
    "äö",
    "naïve",
    "Ω",
    "ω",
    "日本",
    "д",
    "Д",
    " ",
    "a-b-c",
    "--",
)
STRING, INT64 = int(TensorProto.STRING), int(TensorProto.INT64)


def words(case: Case, shape: list[int], vocabulary: tuple[str, ...] = WORDS) -> np.ndarray:
    result = np.empty(tuple(shape), object)
    for index in np.ndindex(*shape):
        result[index] = case.pick(*vocabulary)
    return result


@generator("StringNormalizer")
def string_normalizer(case: Case) -> None:
    shape = case.pick([case.size(1, 8)], [1, case.size(1, 8)])
    stopwords = [case.pick(*WORDS[1:]) for _ in range(case.size(1, 4))] if case.chance(0.6) else None
    case.node(
        [case.input(words(case, shape))],
        [STRING],
        case_change_action=case.pick(None, "NONE", "LOWER", "UPPER"),
        is_case_sensitive=case.pick(None, 0, 1),
        stopwords=stopwords,
        locale=case.pick(None, None, "en_US.UTF-8", "C.UTF-8"),
    )


@generator("StringConcat")
def string_concat(case: Case) -> None:
    shape = case.shape(case.rank(0, 4), high=5)
    shapes = []
    for _ in range(2):
        broadcast = [extent if case.chance(0.8) else 1 for extent in shape]
        shapes.append(broadcast[case.size(0, len(shape)) if case.chance(0.3) else 0 :])
    case.node([case.input(words(case, form), 0.2) for form in shapes], [STRING])


@generator("StringSplit")
def string_split(case: Case) -> None:
    delimiter = case.pick(None, "", " ", "-", "--", "b", ", ", "ö")
    parts = ("", "a", "b", "ab", "-", "--", "---", " ", "  ", "x y", " x ", ", ", "a, b", "ö", "öö", "\t", "q\nr")
    values = words(case, case.shape(case.rank(0, 3), high=5), parts)
    for index in np.ndindex(*values.shape):
        values[index] = "".join(case.pick(*parts) for _ in range(case.size(0, 4)))
    case.node(
        [case.input(values, 0.2)], [STRING, INT64], delimiter=delimiter, maxsplit=case.pick(None, None, 1, 2, 3, 7)
    )


PIECES = (
    "a",
    "b",
    "c",
    ".",
    "\\d",
    "\\w",
    "\\s",
    "[a-c]",
    "[^a]",
    "(a|b)",
    "(?:ab|c)",
    "é",
    "\\.",
    "[é-ö]",
    "\\D",
    "[[:alpha:]]",
    "x",
    "[\\d_]",
    "(ab)*",
    "(?i:A)",
)
LETTERS = ("a", "b", "c", "A", "1", "2", " ", ".", "é", "_", "x", "ö")


@generator("RegexFullMatch")
def regex_full_match(case: Case) -> None:
    pieces = []
    for _ in range(case.size(0, 4)):
        piece = case.pick(*PIECES)
        pieces.append(piece + case.pick("", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?"))
    pattern = "".join(pieces)
    if case.chance(0.2):
        pattern = f"{pattern}|{case.pick(*PIECES)}"
    if case.chance(0.1):
        pattern = f"^{pattern}$"
    values = words(case, case.shape(case.rank(0, 3), high=7))
    for index in np.ndindex(*values.shape):
        values[index] = "".join(case.pick(*LETTERS) for _ in range(case.size(0, 4)))
    case.node([case.input(values, 0.2)], [int(TensorProto.BOOL)], pattern=pattern)


@generator("TfIdfVectorizer")
def tf_idf_vectorizer(case: Case) -> None:
    elem_type = case.type("T")
    longest = case.size(1, 3)
    alphabet = ("a", "b", "c", "é") if elem_type == STRING else tuple(range(4))
    pool, counts, total = [], [], 0
    for length in range(1, longest + 1):
        counts.append(len(pool))
        grams = {tuple(case.pick(*alphabet) for _ in range(length)) for _ in range(case.size(1, 4))}
        for gram in sorted(grams):
            pool.extend(gram)
        total += len(grams)
    weighted = case.chance()
    places = [
        int(place) for place in case.rng.permutation(total + (2 if not weighted and case.chance(0.2) else 0))[:total]
    ]
    high = case.size(1, longest)
    values = words(
        case, case.pick([case.size(1, 9)], [case.size(1, 4), case.size(0 if case.chance(0.1) else 1, 9)]), alphabet
    )
    if elem_type != STRING:
        values = values.astype(numpy_type(elem_type))
    weights = [float(np.float32(weight)) for weight in case.rng.random(total)] if weighted else None
    case.node(
        [case.input(values)],
        [int(TensorProto.FLOAT)],
        mode=case.pick("TF", "IDF", "TFIDF"),
        min_gram_length=case.size(1, high),
        max_gram_length=high,
        max_skip_count=case.size(0, 3),
        ngram_counts=counts,
        ngram_indexes=places,
        weights=weights,
        **{"pool_strings" if elem_type == STRING else "pool_int64s": pool},
    )
