"""Trees, linear functions and dictionaries of ai.onnx.ml, computed plainly from the text of the specification."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import numpy_helper

from .case import Case
from .values import T, dtype_of

COMPARISONS: list[Callable[[float, float], bool]] = [
    lambda a, b: a <= b,
    lambda a, b: a < b,
    lambda a, b: a >= b,
    lambda a, b: a > b,
    lambda a, b: a == b,
    lambda a, b: a != b,
]
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def numbers(case: Case, name: str) -> list[float]:
    """A list of floats, or the tensor that stands for it."""
    tensor = case.attribute(f"{name}_as_tensor")
    return [float(number) for number in (case.attribute(name, []) if tensor is None else numpy_helper.to_array(tensor))]


def array(case: Case, name: str) -> list:
    tensor = case.attribute(name)
    return [] if tensor is None else numpy_helper.to_array(tensor).tolist()


def probit(score: float) -> float:
    """The inverse of the normal distribution by Winitzki's formula, which both oracles use: infinite at 0 and 1, NaN
    outside of them."""
    product = 4 * score * (1 - score)
    if product <= 0:
        return math.copysign(math.inf, score - 0.5) if product == 0 else math.nan
    a = 2 / (math.pi * 0.147) + math.log(product) / 2
    return math.copysign(1.41421356 * math.sqrt(math.sqrt(a * a - math.log(product) / 0.147) - a), score - 0.5)


def transformed(scores: np.ndarray, name: str) -> np.ndarray:
    """A row of scores after post_transform; SOFTMAX_ZERO leaves zeros out."""
    if name == "LOGISTIC":
        return 1 / (1 + np.exp(-scores))
    if name == "PROBIT":
        return np.array([probit(float(score)) for score in scores])
    if name in ("SOFTMAX", "SOFTMAX_ZERO"):
        powers = np.exp(scores - scores.max())
        if name == "SOFTMAX_ZERO":
            powers = np.where(np.abs(scores) <= 1e-7, scores * math.exp(-scores.max()), powers)
            if powers.sum() == 0:
                return np.full_like(powers, 0.5)
        return powers / powers.sum()
    return scores


def goes_true(value: float, mode: int, threshold: float, members: list[float], missing: bool) -> bool:
    if math.isnan(value):
        return missing
    return value in members if mode == 6 else COMPARISONS[mode](value, threshold)


def aggregated(weights: list[tuple[int, float]], targets: int, function: str, trees: int) -> np.ndarray:
    """The sum, mean, least or largest of the weights of every target; 0 of none."""
    scores = np.zeros(targets)
    for target in range(targets):
        own = [weight for index, weight in weights if index == target]
        if function in ("SUM", "AVERAGE"):
            scores[target] = sum(own) / (trees if function == "AVERAGE" else 1)
        else:
            scores[target] = min(own, default=0) if function == "MIN" else max(own, default=0)
    return scores


def legacy_weights(case: Case, prefix: str) -> list[list[tuple[int, float]]]:
    """For every row of the input, the (target, weight) pairs of the leaves that it reaches."""
    names = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    tree, node, feature, on_true, on_false = (case.attribute(f"nodes_{name}") for name in names)
    modes = [mode.decode() for mode in case.attribute("nodes_modes")]
    missing = case.attribute("nodes_missing_value_tracks_true", [0] * len(modes))
    thresholds = numbers(case, "nodes_values")
    places = {pair: index for index, pair in enumerate(zip(tree, node))}
    leaves: dict[tuple[int, int], list[tuple[int, float]]] = {}
    columns = [case.attribute(f"{prefix}_{name}") for name in ("treeids", "nodeids", "ids")]
    for number, owner, target, weight in zip(*columns, numbers(case, f"{prefix}_weights")):
        leaves.setdefault((number, owner), []).append((target, weight))
    result = []
    for row in case.operand(0).astype(np.float64):
        found = []
        for root in dict.fromkeys(tree):
            index = tree.index(root)
            while modes[index] != "LEAF":
                taken = goes_true(
                    row[feature[index]], MODES.index(modes[index]), thresholds[index], [], bool(missing[index])
                )
                index = places[tree[index], (on_true if taken else on_false)[index]]
            found += leaves.get((tree[index], node[index]), [])
        result.append(found)
    return result


def tree_regressor(case: Case) -> list[np.ndarray]:
    """TreeEnsembleRegressor."""
    targets = case.attribute("n_targets")
    trees = len(set(case.attribute("nodes_treeids")))
    base = np.array(numbers(case, "base_values") or [0.0])
    rows = [
        transformed(
            aggregated(weights, targets, case.attribute("aggregate_function", "SUM"), trees) + base,
            case.attribute("post_transform", "NONE"),
        )
        for weights in legacy_weights(case, "target")
    ]
    return [np.array(rows, np.float64).astype(np.float32).reshape(-1, targets)]


def tree_classifier(case: Case) -> list[np.ndarray]:
    """TreeEnsembleClassifier: every weight belongs to the class of its index; but where two classes have weights of the
    first index only, these speak for the second class."""
    labels = case.attribute("classlabels_int64s") or [name.decode() for name in case.attribute("classlabels_strings")]
    binary = len(labels) == 2 and set(case.attribute("class_ids")) == {0}
    base = np.array(numbers(case, "base_values") or [0.0])
    transform = case.attribute("post_transform", "NONE")
    probabilities = min(numbers(case, "class_weights")) >= 0
    rows = []
    for weights in legacy_weights(case, "class"):
        scores = aggregated(weights, len(labels), "SUM", 1)
        if binary:
            score = scores[0] + base[0]
            centred = transform == "PROBIT" or (transform == "NONE" and probabilities)
            scores = np.array([1 - score if centred else -score, score])
        else:
            scores = scores + base
        rows.append(transformed(scores, transform))
    scores = np.array(rows).reshape(-1, len(labels))
    chosen = np.argmax(scores, axis=1)
    names = np.array(labels, np.int64 if case.attribute("classlabels_int64s") else object)
    return [names[chosen], scores.astype(np.float32)]


def tree_ensemble(case: Case) -> list[np.ndarray]:
    """TreeEnsemble."""
    integers = {
        name: case.attribute(f"nodes_{name}")
        for name in ("featureids", "truenodeids", "trueleafs", "falsenodeids", "falseleafs")
    }
    modes, thresholds = array(case, "nodes_modes"), array(case, "nodes_splits")
    missing = case.attribute("nodes_missing_value_tracks_true", [0] * len(modes))
    members: dict[int, list[float]] = {index: [] for index, mode in enumerate(modes) if mode == 6}
    owners = iter(members)
    owner = next(owners, 0)
    for number in array(case, "membership_values"):
        if math.isnan(number):
            owner = next(owners, 0)
        else:
            members[owner].append(number)
    weights, targets = array(case, "leaf_weights"), case.attribute("leaf_targetids")
    roots = case.attribute("tree_roots")
    function = ("AVERAGE", "SUM", "MIN", "MAX")[case.attribute("aggregate_function", 1)]
    data = case.operand(0)
    rows = []
    for row in data.astype(np.float64):
        found = []
        for root in roots:
            index, leaf = root, False
            while not leaf:
                taken = goes_true(
                    row[integers["featureids"][index]],
                    modes[index],
                    thresholds[index],
                    members.get(index, []),
                    bool(missing[index]),
                )
                side = "true" if taken else "false"
                index, leaf = integers[f"{side}nodeids"][index], bool(integers[f"{side}leafs"][index])
            found.append((targets[index], weights[index]))
        scores = aggregated(found, case.attribute("n_targets"), function, len(roots))
        rows.append(transformed(scores, TRANSFORMS[case.attribute("post_transform", 0)]))
    return [np.array(rows).reshape(-1, case.attribute("n_targets")).astype(data.dtype)]


def linear_regressor(case: Case) -> list[np.ndarray]:
    """LinearRegressor."""
    data = case.operand(0).astype(np.float64)
    targets = case.attribute("targets", 1)
    coefficients = np.array(case.attribute("coefficients")).reshape(targets, -1)
    scores = data @ coefficients.T + np.array(case.attribute("intercepts", [0.0]))
    rows = [transformed(row, case.attribute("post_transform", "NONE")) for row in scores]
    return [np.array(rows).reshape(-1, targets).astype(np.float32)]


def linear_classifier(case: Case) -> list[np.ndarray]:
    """LinearClassifier with a row of coefficients for every class: the label is that of the largest score."""
    data = case.operand(0).astype(np.float64)
    numbers = case.attribute("classlabels_ints")
    labels = numbers or [name.decode() for name in case.attribute("classlabels_strings")]
    scores = data @ np.array(case.attribute("coefficients")).reshape(len(labels), -1).T
    scores = scores + np.array(case.attribute("intercepts") or [0.0])
    chosen = np.array(labels, np.int64 if numbers else object)[scores.argmax(axis=1)]
    rows = [transformed(row, case.attribute("post_transform", "NONE")) for row in scores]
    return [chosen, np.array(rows).reshape(-1, len(labels)).astype(np.float32)]


def cast_map(case: Case) -> list[Any]:
    """CastMap of strings: read as numbers, or as they are; 0 where a sparse form has no key."""
    mapping = case.operand(0)
    form, length = case.attribute("cast_to", "TO_FLOAT"), case.attribute("max_map")
    keys = range(length) if case.attribute("map_form", "DENSE") == "SPARSE" else sorted(mapping)
    nothing, read, kind = {
        "TO_FLOAT": (0.0, float, np.float32),
        "TO_INT64": (0, int, np.int64),
        "TO_STRING": ("0.f", str, object),
    }[form]
    return [np.array([[read(mapping[key]) if key in mapping else nothing for key in keys]], kind)]


def dict_vectorizer(case: Case) -> list[Any]:
    """DictVectorizer: the values in the order of the vocabulary, zero or the empty string where there is none."""
    mapping = case.operand(0)
    keys = case.attribute("int64_vocabulary") or [name.decode() for name in case.attribute("string_vocabulary")]
    info = case.outputs[0].type.tensor_type.elem_type
    return [np.array([mapping.get(key, "" if info == T.STRING else 0) for key in keys], dtype_of(info))]


def kernel_values(case: Case, data: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The kernel's value for every row and every support vector."""
    gamma, offset, degree = case.attribute("kernel_params", [0.0, 0.0, 0.0])
    kind = case.attribute("kernel_type", "LINEAR")
    if kind == "RBF":
        return np.exp(-gamma * ((data[:, None] - vectors[None]) ** 2).sum(-1))
    products = data @ vectors.T
    if kind == "POLY":
        return (gamma * products + offset) ** int(degree)
    return np.tanh(gamma * products + offset) if kind == "SIGMOID" else products


def svm_regressor(case: Case) -> list[np.ndarray]:
    """SVMRegressor: a weighted sum of kernels, one for each support vector."""
    data = case.operand(0).astype(np.float64)
    weights = np.array(case.attribute("coefficients"), np.float64)
    count = case.attribute("n_supports", 0)
    if count:
        vectors = np.array(case.attribute("support_vectors")).reshape(count, -1)
        scores = kernel_values(case, data, vectors) @ weights[:, None]
    else:
        scores = data @ weights[:, None]
    scores = scores + case.attribute("rho")[0]
    if case.attribute("one_class", 0):
        return [np.where(scores > 0, 1.0, -1.0).astype(np.float32)]
    rows = [transformed(row, case.attribute("post_transform", "NONE")) for row in scores]
    return [np.array(rows).reshape(-1, 1).astype(np.float32)]


def svm_two_classes(case: Case) -> list[np.ndarray]:
    """SVMClassifier of two classes without probabilities. With support vectors one decision stands for both classes.
    Without any each class has a linear function, and the larger score means the second class where it passes a border,
    whichever of them it belongs to: 0, or 0.5 if no weight is negative."""
    labels = case.attribute("classlabels_ints") or [name.decode() for name in case.attribute("classlabels_strings")]
    transform = case.attribute("post_transform", "NONE")
    data = case.operand(0).astype(np.float64)
    weights = np.array(case.attribute("coefficients"), np.float64)
    rho = case.attribute("rho")[0]
    if count := sum(case.attribute("vectors_per_class") or []):
        vectors = np.array(case.attribute("support_vectors")).reshape(count, -1)
        decisions = kernel_values(case, data, vectors) @ weights + rho
        scores = np.stack([1 - decisions if transform == "PROBIT" else -decisions, decisions], axis=1)
        chosen = np.where(decisions > 0, 0, 1)
    else:
        scores = data @ weights.reshape(2, -1).T + rho
        largest = scores.max(axis=1)
        passed = largest >= 0.5 if (weights >= 0).all() else largest > 0
        chosen = np.where(passed, 1, scores.argmax(axis=1))
    rows = [transformed(row, transform) for row in scores]
    names = np.array(labels, np.int64 if case.attribute("classlabels_ints") else object)
    return [names[chosen], np.array(rows).reshape(-1, 2).astype(np.float32)]
