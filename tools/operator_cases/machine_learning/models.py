"""Linear models and support vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..case import Case, generator
from .features import FLOAT, ML, POST_TRANSFORMS, class_labels, features, floats, table

# Linear models


@generator("LinearClassifier", domain=ML)
def linear_classifier(case: Case) -> None:
    shape = table(case)
    values, _ = features(case, shape, "T1")
    classes = case.size(2, 5)
    rows = 1 if classes == 2 and case.chance() else classes
    names, result = class_labels(case, classes, "classlabels_ints")
    case.node(
        [case.input(values)],
        [result, FLOAT],
        coefficients=floats(case, rows * shape[1]),
        intercepts=floats(case, rows) if rows == 1 or case.chance(0.8) else None,
        post_transform=case.pick(*POST_TRANSFORMS[:5]),
        multi_class=case.pick(None, 0, 1),
        **names,
    )


@generator("LinearRegressor", domain=ML)
def linear_regressor(case: Case) -> None:
    shape = table(case)
    values, elem_type = features(case, shape)
    targets = case.size(1, 4)
    case.node(
        [case.input(values)],
        [FLOAT],
        coefficients=floats(case, targets * shape[1]),
        intercepts=floats(case, targets) if case.chance(0.8) else None,
        targets=None if targets == 1 and case.chance() else targets,
        post_transform=case.pick(None, None, "NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")
        if elem_type == FLOAT
        else None,
    )


# Support vectors


def kernel(case: Case) -> dict[str, Any]:
    kind = case.pick(None, "LINEAR", "POLY", "RBF", "SIGMOID")
    parameters = [case.pick(0.1, 0.5), case.pick(0.0, 0.25), float(case.pick(1, 2, 3))]
    return {"kernel_type": kind, "kernel_params": [float(np.float32(number)) for number in parameters]}


@generator("SVMRegressor", domain=ML)
def svm_regressor(case: Case) -> None:
    shape = table(case)
    values, elem_type = features(case, shape)
    attributes = kernel(case)
    if case.chance(0.2):
        attributes = {
            "kernel_type": case.pick(None, "LINEAR"),
            "coefficients": floats(case, shape[1]),
            "rho": floats(case, 1),
            "kernel_params": [0.0, 0.0, 0.0],
        }
    else:
        count = case.size(1, 5)
        attributes |= {
            "support_vectors": floats(case, count * shape[1]),
            "coefficients": floats(case, count),
            "n_supports": count,
            "rho": floats(case, 1),
        }
    case.node(
        [case.input(values)],
        [FLOAT],
        one_class=case.pick(None, 0, 1),
        post_transform=case.pick(None, None, "NONE", "SOFTMAX", "LOGISTIC", "PROBIT") if elem_type == FLOAT else None,
        **attributes,
    )


@generator("SVMClassifier", domain=ML)
def svm_classifier(case: Case) -> None:
    shape = table(case)
    values, _ = features(case, shape, "T1")
    classes = case.size(2, 4)
    names, result = class_labels(case, classes, "classlabels_ints")
    pairs = classes * (classes - 1) // 2
    if case.chance(0.2):
        attributes: dict[str, Any] = {
            "kernel_type": case.pick(None, "LINEAR"),
            "coefficients": floats(case, classes * shape[1]),
            "rho": floats(case, classes),
            "kernel_params": [0.0, 0.0, 0.0],
        }
    else:
        per_class = [case.size(1, 3) for _ in range(classes)]
        attributes = kernel(case) | {
            "vectors_per_class": per_class,
            "support_vectors": floats(case, sum(per_class) * shape[1]),
            "coefficients": floats(case, (classes - 1) * sum(per_class)),
            "rho": floats(case, pairs),
        }
        if case.chance():
            attributes |= {"prob_a": floats(case, pairs), "prob_b": floats(case, pairs)}
    case.node(
        [case.input(values)],
        [result, FLOAT],
        post_transform=case.pick(None, None, "NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"),
        **attributes,
        **names,
    )
