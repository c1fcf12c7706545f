"""Models over strings: cleaning, splitting, joining, n-gram counts and label tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from test_models import TestModel, parse, strings

CLEAN = """
<ir_version: 10, opset_import: ["": 20]>
text_clean (string[n] words) => (string[kept] clean, bool[kept] numeric, string[kept] marked)
<string prefix = {"<"}, string suffix = {">"}>
{
  clean = StringNormalizer <
    locale = "C.UTF-8", case_change_action = "LOWER", is_case_sensitive = 0, stopwords = ["the", "a"]
  > (words)
  numeric = RegexFullMatch <pattern = "[0-9]+([.][0-9]+)?"> (clean)
  opened = StringConcat (prefix, clean)
  marked = StringConcat (opened, suffix)
}
"""

SPLIT = """
<ir_version: 10, opset_import: ["": 20]>
text_split (string[n] lines) => (
  string[n, most] words, int64[n] counts, string[n, most_fields] fields, int64[n] field_counts)
{
  words, counts = StringSplit (lines)
  fields, field_counts = StringSplit <delimiter = ";", maxsplit = 2> (lines)
}
"""

NGRAMS = """
<ir_version: 10, opset_import: ["": 20, "ai.onnx.ml": 4]>
text_ngrams (string[n, length] words) => (string[n] topic, float[n, 3] scores)
<float[7, 3] weights, float[3] bias>
{
  counts = TfIdfVectorizer <
    mode = "TFIDF", min_gram_length = 1, max_gram_length = 2, max_skip_count = 1,
    ngram_counts = [0, 4], ngram_indexes = [0, 1, 2, 3, 4, 5, 6],
    pool_strings = ["cat", "dog", "ship", "sail", "cat", "dog", "ship", "sail", "the", "sea"],
    weights = [1.0, 1.0, 1.5, 0.5, 2.0, 2.0, 0.25]
  > (words)
  product = MatMul (counts, weights)
  scores = Add (product, bias)
  best = ArgMax <axis = 1, keepdims = 0> (scores)
  topic = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 1, 2], values_strings = ["pets", "boats", "coast"]> (best)
}
"""

LABELS = """
<ir_version: 10, opset_import: ["": 20, "ai.onnx.ml": 4]>
label_tables (string[n, m] words) => (int64[n, m] numbers, float[n, m] weights, string[n, m] again)
{
  numbers = ai.onnx.ml.LabelEncoder <
    keys_strings = ["red", "green", "blue", ""], values_int64s = [3, 1, 2, 0], default_int64 = -7
  > (words)
  weights = ai.onnx.ml.LabelEncoder <
    keys_int64s = [1, 2, 3], values_floats = [0.5, 0.25, 0.125], default_float = -1.0
  > (numbers)
  again = ai.onnx.ml.LabelEncoder <
    keys_floats = [0.5, 0.25, 0.125], values_strings = ["grün", "blau", "rot"], default_string = "?"
  > (weights)
}
"""


def models() -> Iterator[TestModel]:
    yield TestModel(
        "text_clean",
        parse(CLEAN),
        [{"words": strings("The", "Year", "1984", "A", "Pi", "3.14")}, {"words": strings("Straße", "x")}],
    )
    yield TestModel(
        "text_split",
        parse(SPLIT),
        [{"lines": strings("one two  three", " lead", ";", "a;b;c;d")}, {"lines": strings("blåbær og;jordbær")}],
    )
    random = np.random.default_rng(4)
    weights = random.normal(0, 1, (7, 3)).astype(np.float32)
    yield TestModel(
        "text_ngrams",
        parse(NGRAMS, weights=weights, bias=np.array([0.1, 0.2, 0.3], np.float32)),
        [
            {"words": np.array([["the", "cat", "sea", "dog"], ["ship", "the", "sail", "sea"]], dtype=object)},
            {"words": np.array([["the", "sea"]], dtype=object)},
        ],
    )
    yield TestModel(
        "label_tables",
        parse(LABELS),
        [{"words": np.array([["red", "green"], ["", "pink"]], dtype=object)}, {"words": strings("blue").reshape(1, 1)}],
    )
