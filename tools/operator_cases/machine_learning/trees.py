"""Ensembles of trees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from ..case import Case, generator
from ..tensor import numpy_type
from .features import FLOAT, ML, POST_TRANSFORMS, class_labels, features, floats

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
THRESHOLDS = (-1.5, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0)


@dataclass
class Node:
    """A test, with the nodes that follow, or a leaf without them."""

    mode: int = 0
    feature: int = 0
    threshold: float = 0.0
    missing: int = 0
    yes: Node | None = None
    no: Node | None = None
    members: list[float] = field(default_factory=list)


def grow(case: Case, width: int, depth: int, modes: list[int]) -> Node:
    if depth == 0 or case.chance(0.15):
        return Node()
    mode = case.pick(*modes)
    members = [case.pick(*THRESHOLDS[:3], 0.25, 0.5, 1.0, 2.0) for _ in range(case.size(1, 3))] if mode == 6 else []
    return Node(
        mode,
        case.size(0, width - 1),
        case.pick(*THRESHOLDS),
        int(case.chance()),
        grow(case, width, depth - 1, modes),
        grow(case, width, depth - 1, modes),
        members,
    )


def listed(node: Node) -> list[Node]:
    """The nodes, a parent before its children."""
    return [node] if node.yes is None or node.no is None else [node, *listed(node.yes), *listed(node.no)]


def modes_of(case: Case, count: int) -> list[int]:
    """One mode for the ensemble, or several."""
    return [case.size(0, count - 1)] if case.chance() else list(range(count))


def legacy(case: Case, width: int) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """The attributes nodes_… of versions 1 and 3; and the (tree, node) of the leaves."""
    modes = modes_of(case, len(MODES))
    rows: list[tuple] = []
    leaves = []
    for tree in range(case.size(1, 4)):
        nodes = listed(grow(case, width, case.size(0 if case.chance(0.2) else 1, 3), modes))
        number = {id(node): index for index, node in enumerate(nodes)}
        for node in nodes:
            leaf = node.yes is None
            if leaf:
                leaves.append((tree, number[id(node)]))
            rows.append(
                (
                    tree,
                    number[id(node)],
                    "LEAF" if leaf else MODES[node.mode],
                    node.feature,
                    node.threshold,
                    node.missing,
                    0 if leaf else number[id(node.yes)],
                    0 if leaf else number[id(node.no)],
                )
            )
    names = (
        "treeids",
        "nodeids",
        "modes",
        "featureids",
        "values",
        "missing_value_tracks_true",
        "truenodeids",
        "falsenodeids",
    )
    attributes = {f"nodes_{name}": list(column) for name, column in zip(names, zip(*rows))}
    if case.chance():
        del attributes["nodes_missing_value_tracks_true"]
    if case.chance(0.2):
        attributes["nodes_hitrates"] = [1.0] * len(rows)
    return attributes, leaves


def as_tensors(case: Case, attributes: dict[str, Any], names: list[str], elem_type: int) -> None:
    """From version 3 on, lists of floats may be tensors; doubles have to be."""
    if case.version >= 3 and elem_type == TensorProto.DOUBLE:
        for name in names:
            if name in attributes:
                values = np.array(attributes.pop(name), np.float64)
                attributes[f"{name}_as_tensor"] = numpy_helper.from_array(values, name)


def ensemble_input(case: Case, variable: str) -> tuple[str, int, int]:
    """The input, its number of features, and its type."""
    shape = [case.size(1, 40) if case.chance(0.2) else case.size(1, 7), case.size(1, 5)]
    values, elem_type = features(case, shape, variable, missing=0.2 if case.chance(0.4) else 0)
    return case.input(values), shape[1], elem_type


@generator("TreeEnsembleRegressor", domain=ML)
def tree_ensemble_regressor(case: Case) -> None:
    source, width, elem_type = ensemble_input(case, "T")
    attributes, leaves = legacy(case, width)
    targets = 1 if case.chance() else case.size(2, 3)
    rows = [
        (tree, node, target)
        for tree, node in leaves
        for target in sorted({case.size(0, targets - 1) for _ in range(case.size(1, targets))})
    ]
    for name, column in zip(("target_treeids", "target_nodeids", "target_ids"), zip(*rows)):
        attributes[name] = list(column)
    attributes["target_weights"] = floats(case, len(rows))
    if case.chance(0.4):
        attributes["base_values"] = floats(case, targets)
    as_tensors(case, attributes, ["nodes_values", "nodes_hitrates", "target_weights", "base_values"], elem_type)
    case.node(
        [source],
        [FLOAT],
        n_targets=targets,
        aggregate_function=case.pick(None, "SUM", "AVERAGE", "MIN", "MAX"),
        post_transform=case.pick(None, *POST_TRANSFORMS),
        **attributes,
    )


@generator("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(case: Case) -> None:
    source, width, elem_type = ensemble_input(case, "T1")
    attributes, leaves = legacy(case, width)
    classes = case.size(2, 4)
    names, result = class_labels(case, classes, "classlabels_int64s")
    binary = classes == 2 and case.chance()
    one = case.pick(0, 1)
    rows = [
        (tree, node, number)
        for tree, node in leaves
        for number in ([one] if binary else sorted({case.size(0, classes - 1) for _ in range(case.size(1, classes))}))
    ]
    for name, column in zip(("class_treeids", "class_nodeids", "class_ids"), zip(*rows)):
        attributes[name] = list(column)
    attributes["class_weights"] = (
        [abs(weight) for weight in floats(case, len(rows))] if case.chance() else floats(case, len(rows))
    )
    if case.chance(0.3):
        attributes["base_values"] = floats(case, 1 if binary and one == 0 else classes)
    as_tensors(case, attributes, ["nodes_values", "nodes_hitrates", "class_weights", "base_values"], elem_type)
    case.node([source], [result, FLOAT], post_transform=case.pick(*POST_TRANSFORMS[:5]), **names, **attributes)


def place(
    case: Case, node: Node, tests: dict[str, list], weights: list[tuple[int, float]], targets: int
) -> tuple[int, int]:
    """Writes a node and what follows it; its index, and 1 if that is among the leaves."""
    if node.yes is None or node.no is None:
        weights.append((case.size(0, targets - 1), floats(case, 1)[0]))
        return len(weights) - 1, 1
    index = len(tests["modes"])
    fields = {
        "modes": node.mode,
        "featureids": node.feature,
        "splits": node.threshold,
        "missing_value_tracks_true": node.missing,
        "members": node.members,
    }
    for name, value in fields.items():
        tests[name].append(value)
    for name in ("truenodeids", "trueleafs", "falsenodeids", "falseleafs"):
        tests[name].append(0)
    tests["truenodeids"][index], tests["trueleafs"][index] = place(case, node.yes, tests, weights, targets)
    tests["falsenodeids"][index], tests["falseleafs"][index] = place(case, node.no, tests, weights, targets)
    return index, 0


@generator("TreeEnsemble", domain=ML)
def tree_ensemble(case: Case) -> None:
    source, width, elem_type = ensemble_input(case, "T")
    modes = modes_of(case, 7)
    targets = 1 if case.chance() else case.size(2, 3)
    tests: dict[str, list] = {
        name: []
        for name in (
            "modes",
            "featureids",
            "splits",
            "missing_value_tracks_true",
            "members",
            "truenodeids",
            "trueleafs",
            "falsenodeids",
            "falseleafs",
        )
    }
    weights: list[tuple[int, float]] = []
    roots = []
    for _ in range(case.size(1, 4)):
        tree = grow(case, width, case.size(1, 3), modes)
        if tree.yes is None:
            weights.append((case.size(0, targets - 1), floats(case, 1)[0]))
            leaf = len(weights) - 1
            fields = (0, 0, 0.0, 0, [], leaf, 1, leaf, 1)
            for name, value in zip(tests, fields):
                tests[name].append(value)
            roots.append(len(tests["modes"]) - 1)
        else:
            roots.append(place(case, tree, tests, weights, targets)[0])
    members = [
        number for mode, values in zip(tests["modes"], tests["members"]) if mode == 6 for number in [*values, np.nan]
    ]
    dtype = numpy_type(elem_type)

    def tensor(values: list, kind: Any = dtype) -> TensorProto:
        return numpy_helper.from_array(np.array(values, np.float64).astype(kind), "values")

    integers = {
        f"nodes_{name}": tests[name]
        for name in ("featureids", "truenodeids", "trueleafs", "falsenodeids", "falseleafs")
    }
    case.node(
        [source],
        [elem_type],
        tree_roots=roots,
        n_targets=targets,
        nodes_modes=tensor(tests["modes"], np.uint8),
        nodes_splits=tensor(tests["splits"]),
        leaf_weights=tensor([weight for _, weight in weights]),
        leaf_targetids=[target for target, _ in weights],
        membership_values=tensor(members) if members else None,
        nodes_missing_value_tracks_true=tests["missing_value_tracks_true"] if case.chance() else None,
        nodes_hitrates=tensor([1.0] * len(tests["modes"]), np.float32) if case.chance(0.2) else None,
        aggregate_function=case.pick(None, 0, 1, 2, 3),
        post_transform=case.pick(None, 0, 0, 1, 2, 3, 4),
        **integers,
    )
