"""Models of ai.onnx.ml: trees, linear models, support vectors, and the preparation of features; strings."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from operator_speed.case import Case, draw, f32, one

CASE = partial(one, family="classical", domain="ai.onnx.ml")
FEATURES = 20


def forest(trees: int, depth: int, targets: int, prefix: str) -> dict[str, Any]:
    """Attributes of complete trees with random splits; each leaf adds to one target."""
    random = np.random.default_rng(trees)
    inner, leaves = (1 << depth) - 1, 1 << depth
    nodes = inner + leaves
    index = np.arange(nodes)
    is_leaf = index >= inner
    node: dict[str, list[Any]] = {
        "treeids": np.repeat(np.arange(trees), nodes).tolist(),
        "nodeids": np.tile(index, trees).tolist(),
        "featureids": np.where(np.tile(is_leaf, trees), 0, random.integers(0, FEATURES, trees * nodes)).tolist(),
        "values": np.where(np.tile(is_leaf, trees), 0, random.normal(size=trees * nodes)).astype(np.float32).tolist(),
        "truenodeids": np.tile(np.where(is_leaf, 0, 2 * index + 1), trees).tolist(),
        "falsenodeids": np.tile(np.where(is_leaf, 0, 2 * index + 2), trees).tolist(),
        "modes": np.tile(np.where(is_leaf, "LEAF", "BRANCH_LEQ"), trees).tolist(),
    }
    leaf = {
        "treeids": np.repeat(np.arange(trees), leaves).tolist(),
        "nodeids": np.tile(index[is_leaf], trees).tolist(),
        "ids": random.integers(0, targets, trees * leaves).tolist(),
        "weights": (random.normal(size=trees * leaves) / trees).astype(np.float32).tolist(),
    }
    return {f"nodes_{key}": value for key, value in node.items()} | {
        f"{prefix}_{key}": value for key, value in leaf.items()
    }


def trees() -> list[Case]:
    found = []
    for count, depth in [(100, 6), (300, 8)]:
        for rows in (1, 1000):
            size = f"{count} trees of depth {depth} {rows} rows"
            found.append(
                CASE(
                    "TreeEnsembleRegressor",
                    size,
                    [f32(rows, FEATURES)],
                    n_targets=1,
                    **forest(count, depth, 1, "target"),
                )
            )
            if count == 100:
                found.append(
                    CASE(
                        "TreeEnsembleClassifier",
                        size,
                        [f32(rows, FEATURES)],
                        outputs=2,
                        classlabels_int64s=[0, 1, 2],
                        post_transform="SOFTMAX",
                        **forest(count, depth, 3, "class"),
                    )
                )
    return found


def linear() -> list[Case]:
    random = np.random.default_rng(1)

    def numbers(count: int) -> list[float]:
        return random.normal(size=count).astype(np.float32).tolist()

    found = []
    for rows in (1, 1000):
        x = [f32(rows, FEATURES)]
        found += [
            CASE("LinearRegressor", f"{rows} rows", x, coefficients=numbers(FEATURES), intercepts=[0.5], targets=1),
            CASE(
                "LinearClassifier",
                f"{rows} rows",
                x,
                outputs=2,
                coefficients=numbers(3 * FEATURES),
                intercepts=numbers(3),
                classlabels_ints=[0, 1, 2],
                post_transform="SOFTMAX",
            ),
            CASE("Scaler", f"{rows} rows", x, offset=numbers(FEATURES), scale=numbers(FEATURES)),
            CASE(
                "SVMRegressor",
                f"100 vectors {rows} rows",
                x,
                coefficients=numbers(100),
                kernel_params=[0.05, 0, 3],
                kernel_type="RBF",
                n_supports=100,
                rho=[0.1],
                support_vectors=numbers(100 * FEATURES),
                tolerance=1e-2,
            ),
        ]
    x = [f32(1000, FEATURES)]
    labels = [draw("i64", 1000, low=0, high=40)]
    found += [
        CASE("Normalizer", "L2 1000 rows", x, norm="L2"),
        CASE("Binarizer", "1000 rows", x, threshold=0.1),
        CASE("Imputer", "1000 rows", x, imputed_value_floats=[0.5], replaced_value_float=float("nan")),
        CASE("OneHotEncoder", "1000 of 40", labels, type="i64", cats_int64s=list(range(40))),
        CASE("LabelEncoder", "1000 of 40", labels, type="i64", keys_int64s=list(range(40)), values_floats=numbers(40)),
        CASE("ArrayFeatureExtractor", "5 of 1000 rows", [*x, np.arange(0, 20, 4)[None]]),
        CASE("FeatureVectorizer", "2 of 1000 rows", [*x, *x], inputdimensions=[FEATURES, FEATURES]),
    ]
    # 40 single words, then 200 pairs.
    pairs = [word for n in range(200) for word in (n % 60, n // 60 * 7)]
    grams = {"ngram_counts": [0, 40], "ngram_indexes": list(range(240)), "pool_int64s": [*range(40), *pairs]}
    found.append(
        one(
            "TfIdfVectorizer",
            "64 words 240 grams",
            [draw("i64", 16, 64, low=0, high=60)],
            family="classical",
            type="i64",
            mode="TF",
            min_gram_length=1,
            max_gram_length=2,
            max_skip_count=0,
            **grams,
        )
    )
    return found


def cases() -> list[Case]:
    return trees() + linear()
