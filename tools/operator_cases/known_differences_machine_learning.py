"""Explained disagreements on the operators of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import plain_models
from .case import Case
from .known_differences import DIFFERENCES, KnownDifference
from .machine_learning.features import ML

Predicate = Callable[[Case], bool]


def known(
    operator: str, right: str, reason: str, applies: Predicate, expected: Any = None, discards: bool = False
) -> None:
    DIFFERENCES.append(KnownDifference((operator,), right, reason, applies, ML, expected, discards))


def transforms(case: Case) -> bool:
    return case.attribute("post_transform", "NONE") not in ("NONE", 0)


def label_count(case: Case) -> int:
    return max(
        len(case.attribute(name) or ()) for name in ("classlabels_ints", "classlabels_int64s", "classlabels_strings")
    )


def has_tensors(case: Case) -> bool:
    return any(attribute.name.endswith("_as_tensor") for attribute in case.under_test.attribute)


def one_sided(case: Case, many: bool) -> bool:
    """Whether weights are for one class only: the first of two, or (`many`) another one."""
    classes = set(case.attribute("class_ids"))
    return len(classes) == 1 and many != (label_count(case) == 2 and classes == {0})


def has_negative(case: Case) -> bool:
    return min(plain_models.numbers(case, "class_weights")) < 0


def misses_targets(case: Case) -> bool:
    """Whether a target may be without a leaf where that matters."""
    based = any(attribute.name.startswith("base_values") for attribute in case.under_test.attribute)
    return case.attribute("n_targets", 1) > 1 and (
        based or case.attribute("aggregate_function") in ("MIN", "MAX", 2, 3)
    )


def compares_nan(case: Case) -> bool:
    """Whether NaN may meet the test for inequality, which is true of it elsewhere."""
    modes = case.attribute("nodes_modes")
    unequal = b"BRANCH_NEQ" in modes if isinstance(modes, list) else 5 in plain_models.array(case, "nodes_modes")
    return unequal and bool(np.isnan(case.operand(0).astype(np.float64)).any())


def has_lone_leaf(case: Case) -> bool:
    """Whether a tree of TreeEnsemble is one leaf."""
    sides = [case.attribute(f"nodes_{name}") for name in ("trueleafs", "falseleafs", "truenodeids", "falsenodeids")]
    return any(
        sides[0][root] and sides[1][root] and sides[2][root] == sides[3][root] for root in case.attribute("tree_roots")
    )


def has_probabilities(case: Case) -> bool:
    return bool(case.attribute("prob_a"))


known(
    "CastMap",
    "specification",
    "CastMap to strings: the specification names no form of numbers; ONNX Runtime prints six places after the point.",
    lambda case: (
        case.attribute("cast_to") == "TO_STRING" and "float" in str(type(next(iter(case.operand(0).values()))))
    ),
)
known(
    "DictVectorizer",
    "specification",
    "DictVectorizer gives a vector; ONNX Runtime gives one row of a matrix, the reference evaluator has no types.",
    lambda case: True,
    plain_models.dict_vectorizer,
)
known(
    "LinearClassifier",
    "onnxruntime",
    "A linear model without intercepts has none; the reference evaluator gives NaN.",
    lambda case: case.attribute("intercepts") is None,
)
known(
    "LinearClassifier",
    "reference",
    "Where one score stands for two classes, post_transform is applied to both; ONNX Runtime has rules of its own.",
    lambda case: label_count(case) == 2,
)
known(
    "LinearRegressor",
    "specification",
    "A linear model without intercepts has none; the reference evaluator gives NaN. ONNX Runtime does not transform"
    " a single target.",
    lambda case: transforms(case) or case.attribute("intercepts") is None,
    plain_models.linear_regressor,
)
known(
    "SVMRegressor",
    "specification",
    "post_transform is applied to a single target too; ONNX Runtime leaves it out.",
    transforms,
    plain_models.svm_regressor,
)
known(
    "Normalizer",
    "onnxruntime",
    "Normalizer divides by the maximum; the reference evaluator by that of absolute values.",
    lambda case: case.attribute("norm", "MAX") == "MAX",
)
known(
    "SVMClassifier",
    "onnxruntime",
    "SVMClassifier: probabilities of three and more classes come from the pairs as in libsvm; the reference"
    " evaluator makes a mistake in the matrix.",
    lambda case: has_probabilities(case) and label_count(case) > 2,
)
known(
    "SVMClassifier",
    "reference",
    "Where one score stands for two classes, post_transform is applied to both; ONNX Runtime has rules of its own.",
    lambda case: label_count(case) == 2 and not has_probabilities(case),
)
for operator, model in (
    ("TreeEnsemble", plain_models.tree_ensemble),
    ("TreeEnsembleRegressor", plain_models.tree_regressor),
    ("TreeEnsembleClassifier", plain_models.tree_classifier),
):
    known(
        operator,
        "specification",
        "A missing value goes the way that nodes_missing_value_tracks_true says, at BRANCH_NEQ too, where for the"
        " reference evaluator and ONNX Runtime NaN is always unequal.",
        compares_nan,
        model,
    )
known(
    "TreeEnsembleClassifier",
    "specification",
    "TreeEnsembleClassifier: weights belong to the class of their index, and the label is that of the largest score."
    " The reference evaluator makes two classes of many if weights are for one only, and takes no tensors; ONNX"
    " Runtime has rules of its own.",
    lambda case: has_tensors(case) or one_sided(case, many=True),
    plain_models.tree_classifier,
)
known(
    "TreeEnsembleClassifier",
    "onnxruntime",
    "TreeEnsembleClassifier of two classes, weights for the first only, some of them negative, no transformation:"
    " scores are distances from a border at 0, the first one the negative of the second; the reference evaluator"
    " takes them for probabilities.",
    lambda case: one_sided(case, many=False) and not transforms(case) and has_negative(case),
)
known(
    "TreeEnsembleClassifier",
    "reference",
    "TreeEnsembleClassifier: post_transform is applied to all scores, and the label is that of the largest, a class"
    " without weights among them; ONNX Runtime has rules of its own.",
    lambda case: True,
)
known(
    "TreeEnsembleRegressor",
    "specification",
    "PROBIT of 0 and 1 is 0; for ONNX Runtime it is infinite. post_transform is applied to a single target too; a"
    " target that no leaf is for has the least or largest number of the type as its maximum or minimum. ONNX Runtime"
    " leaves out the one and gives 0 for the other.",
    lambda case: (
        misses_targets(case)
        or (transforms(case) and (case.attribute("n_targets") == 1 or case.attribute("post_transform") == "PROBIT"))
    ),
    plain_models.tree_regressor,
)
known(
    "TreeEnsemble",
    "specification",
    "A tree that is one leaf has the leaf that both sides name; the reference evaluator takes the one with the"
    " root's number.",
    has_lone_leaf,
    plain_models.tree_ensemble,
)
known(
    "TreeEnsemble",
    "specification",
    "post_transform is applied, to a single target too; a target that no leaf is for has the least or largest number"
    " of the type as its maximum or minimum. The reference evaluator leaves out the one, ONNX Runtime gives 0 for"
    " the other.",
    lambda case: misses_targets(case) or transforms(case),
    plain_models.tree_ensemble,
)
