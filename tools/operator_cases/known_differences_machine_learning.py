"""Rules of the operators of ai.onnx.ml; see rules.py."""

from __future__ import annotations

import functools

import numpy as np

from . import plain_models, rules
from .case import Case
from .known_differences import AGREEMENT, ONNXRUNTIME, TEXT, of_integers
from .machine_learning.features import ML

rule = functools.partial(rules.rule, domain=ML)


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


def has_two_open_classes(case: Case, linear: bool) -> bool:
    """Whether a support vector machine tells two classes apart without probabilities, with or without vectors."""
    vectors = sum(case.attribute("vectors_per_class") or [])
    return label_count(case) == 2 and not has_probabilities(case) and linear == (vectors == 0)


rule(
    "DictVectorizer",
    TEXT,
    "The result is a vector; onnxruntime gives one row of a matrix, the reference evaluator has no types.",
    "DictVectorizer-1: the 1-D output Y",
    expected=plain_models.dict_vectorizer,
)
rule(
    "LinearClassifier",
    TEXT,
    "A linear model without intercepts has none; the reference evaluator gives NaN.",
    "LinearClassifier-1, attribute intercepts",
    lambda case: case.attribute("intercepts") is None,
    expected=plain_models.linear_classifier,
)
rule(
    "LinearClassifier",
    ONNXRUNTIME,
    "Beside one score for two classes stands 1 - score where nothing is transformed; the reference evaluator gives the"
    " negative.",
    "onnxruntime's ml_common.h; the text does not say",
    lambda case: len(case.attribute("intercepts") or ()) == 1 and label_count(case) == 2 and not transforms(case),
    right="onnxruntime",
)
rule(
    "LinearRegressor",
    TEXT,
    "A linear model without intercepts has none, integers are numbers, and post_transform is applied to a single"
    " target too;"
    " the reference evaluator gives NaN, integers and an error, onnxruntime leaves the transformation out.",
    "LinearRegressor-1: intercepts are optional, attribute post_transform, type constraint T",
    lambda case: transforms(case) or case.attribute("intercepts") is None or of_integers(case),
    expected=plain_models.linear_regressor,
)
rule(
    "SVMRegressor",
    TEXT,
    "Integers are numbers, and post_transform is applied to a single target too; the reference evaluator gives"
    " integers and an"
    " error, onnxruntime leaves the transformation out.",
    "SVMRegressor-1, attribute post_transform, type constraint T",
    lambda case: transforms(case) or of_integers(case),
    expected=plain_models.svm_regressor,
)
rule(
    "CastMap",
    TEXT,
    "Strings are read as numbers; the reference evaluator has no CastMap, onnxruntime's Python interface takes no"
    " such maps.",
    "CastMap-1: casts the values of a map",
    lambda case: isinstance(next(iter(case.operand(0).values())), str),
    expected=plain_models.cast_map,
)
rule(
    "Normalizer",
    TEXT,
    "MAX divides by the maximum; the reference evaluator by that of magnitudes.",
    "Normalizer-1: X / max(X)",
    lambda case: case.attribute("norm", "MAX") == "MAX",
    right="onnxruntime",
)
rule(
    "Normalizer",
    AGREEMENT,
    "L1 divides by the sum of magnitudes, and L2 keeps signs, where the letters of the formulas say a sum of signed"
    " numbers"
    " and a root of squares: they abbreviate, as the names of the norms say what is meant.",
    "Normalizer-1, formulas of L1 and L2; both oracles",
    lambda case: case.attribute("norm") in ("L1", "L2"),
)
rule(
    "SVMClassifier",
    ONNXRUNTIME,
    "Probabilities of three and more classes come from the pairs as in libsvm; the reference evaluator makes a"
    " mistake in"
    " the matrix.",
    "libsvm's multiclass_probability; the text of SVMClassifier-1 does not say",
    lambda case: has_probabilities(case) and label_count(case) > 2,
    right="onnxruntime",
)
rule(
    "SVMClassifier",
    TEXT,
    "Where one decision stands for two classes, post_transform is applied to the scores of both; onnxruntime leaves"
    " SOFTMAX and SOFTMAX_ZERO out and writes one score of PROBIT only, the reference evaluator takes no strings.",
    "SVMClassifier-1, attribute post_transform",
    lambda case: transforms(case) and has_two_open_classes(case, linear=False),
    expected=plain_models.svm_two_classes,
)
rule(
    "SVMClassifier",
    ONNXRUNTIME,
    "Of two classes with support vectors the sign of the decision says which it is; for the reference evaluator it is"
    " the second one wherever no weight is negative.",
    "onnxruntime's svmclassifier.cc; the text does not say",
    lambda case: has_two_open_classes(case, linear=False),
    expected=plain_models.svm_two_classes,
)
rule(
    "SVMClassifier",
    ONNXRUNTIME,
    "Of two linear functions the larger score means the second class where it passes 0, or 0.5 if no weight is"
    " negative, whichever class it belongs to; for the reference evaluator it does so for 0.5 and a single rho only.",
    "onnxruntime's svmclassifier.cc; the text does not say",
    lambda case: has_two_open_classes(case, linear=True),
    expected=plain_models.svm_two_classes,
)
for operator, model in (
    ("TreeEnsemble", plain_models.tree_ensemble),
    ("TreeEnsembleRegressor", plain_models.tree_regressor),
    ("TreeEnsembleClassifier", plain_models.tree_classifier),
):
    rule(
        operator,
        TEXT,
        "A missing value goes the way that nodes_missing_value_tracks_true says, at BRANCH_NEQ too, where for the"
        " reference"
        " evaluator and onnxruntime NaN is always unequal.",
        f"{operator}, attribute nodes_missing_value_tracks_true",
        compares_nan,
        expected=model,
    )
rule(
    "TreeEnsembleRegressor",
    TEXT,
    "post_transform is applied, to a single target too, and base values are added to a target that no leaf is for;"
    " PROBIT of 0"
    " and 1 is infinite. onnxruntime leaves out the first two, for the reference evaluator PROBIT of 0 is 0.",
    "TreeEnsembleRegressor-3, attributes post_transform and base_values; onnxruntime's ComputeProbit",
    lambda case: transforms(case) or misses_targets(case),
    expected=plain_models.tree_regressor,
)
rule(
    "TreeEnsemble",
    TEXT,
    "post_transform is applied, to a single target too; the reference evaluator leaves it out, onnxruntime for a"
    " single target.",
    "TreeEnsemble-5, attribute post_transform",
    transforms,
    expected=plain_models.tree_ensemble,
)
rule(
    "TreeEnsemble",
    TEXT,
    "A tree that is one leaf has the leaf that both sides name; the reference evaluator takes the one with the"
    " root's number.",
    "TreeEnsemble-5, attribute nodes_trueleafs",
    has_lone_leaf,
    expected=plain_models.tree_ensemble,
)
rule(
    "TreeEnsemble",
    ONNXRUNTIME,
    "The least and the largest of no leaves are 0; for the reference evaluator they are the largest and the least"
    " number.",
    "onnxruntime's tree_ensemble_aggregator.h; the text does not say",
    misses_targets,
    expected=plain_models.tree_ensemble,
)
rule(
    "TreeEnsembleClassifier",
    TEXT,
    "Weights belong to the class of their index, and the label is that of the largest score. The reference evaluator"
    " makes two"
    " classes of many if weights are for one only, and takes no tensors; onnxruntime has rules of its own.",
    "TreeEnsembleClassifier-3, attributes class_ids and class_weights, output Y: the top class",
    lambda case: has_tensors(case) or not one_sided(case, many=False),
    expected=plain_models.tree_classifier,
)
rule(
    "TreeEnsembleClassifier",
    ONNXRUNTIME,
    "Of two classes with weights for the first only, some of them negative, and no transformation, scores are"
    " distances from a"
    " border at 0, the first one the negative of the second; the reference evaluator takes them for probabilities.",
    "onnxruntime's tree_ensemble_aggregator.h; the text does not say",
    lambda case: one_sided(case, many=False) and not transforms(case) and has_negative(case),
    expected=plain_models.tree_classifier,
)
rule(
    "TreeEnsembleClassifier",
    TEXT,
    "Of two classes with weights for the first only, post_transform is applied to the scores of both, and the label is"
    " that of the larger one; onnxruntime leaves SOFTMAX and SOFTMAX_ZERO out, and its label is that of a score above"
    " 0.5 or 0 before the transformation.",
    "TreeEnsembleClassifier-3, attribute post_transform, output Y: the top class",
    lambda case: one_sided(case, many=False) and transforms(case),
    expected=plain_models.tree_classifier,
)
