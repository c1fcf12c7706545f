"""Normalizations, softmax and its relatives."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .case import Case, generator
from .windows import moderate


def epsilon(case: Case) -> float | None:
    return case.pick(None, 1e-5, 1e-3, 0.1)


@generator("BatchNormalization")
def batch_normalization(case: Case) -> None:
    version = case.version
    elem = case.type("T")
    kinds = {14: ("T", "U", "U"), 15: ("T1", "T1", "T2")}
    scale_variable, _, mean_variable = kinds.get(version, ("T", "T", "T"))
    scale_type = case.type(scale_variable, only={elem} if relaxed(case, scale_variable) else None)
    mean_type = case.type(mean_variable, only={elem} if relaxed(case, mean_variable) else None)
    rank = case.rank(2, 5)
    shape = [case.size(1, 3), case.size(1, 5), *(case.size(1, 5) for _ in range(rank - 2))]
    if case.chance(0.03):
        shape[0] = 0
    training = case.chance(0.3)
    spatial = case.pick(None, 1) if version <= 7 else None
    if version <= 7 and case.chance(0.2):
        spatial, training = 0, False
    width = shape[1:] if spatial == 0 else [shape[1]]
    outputs = [elem]
    attributes = {"epsilon": epsilon(case), "momentum": case.pick(None, 0.9, 0.5, 0.0), "spatial": spatial}
    if version >= 14:
        attributes["training_mode"] = 1 if training else case.pick(None, 0)
        outputs += [mean_type, mean_type] if training else []
    elif version <= 6:
        attributes["is_test"] = case.pick(None, 0) if training else 1
        attributes["consumed_inputs"] = [0, 0, 0, 1, 1] if version == 1 else None
    inputs = [
        case.input(moderate(case, elem, shape)),
        case.input(case.values(scale_type, width), constant=0.6),
        case.input(case.values(scale_type, width), constant=0.6),
        case.input(case.values(mean_type, width), constant=0.6),
        case.input(case.values(mean_type, width, 0.1, 2), constant=0.6),
    ]
    case.node(inputs, outputs=outputs, **attributes)


def relaxed(case: Case, variable: str) -> bool:
    """The same type as X most of the time, if the variable is not told."""
    return variable != "T" and variable not in case.forced and case.chance(0.7)


@generator("InstanceNormalization")
def instance_normalization(case: Case) -> None:
    elem = case.type("T")
    rank = case.rank(3, 5)
    shape = [case.size(1, 3), case.size(1, 5), *(case.size(1, 6) for _ in range(rank - 2))]
    inputs = [case.input(moderate(case, elem, shape))]
    inputs += [case.input(case.values(elem, [shape[1]]), constant=0.6) for _ in range(2)]
    consumed = [0, 0, 0] if case.version == 1 and case.chance() else None
    case.node(inputs, outputs=[elem], epsilon=epsilon(case), consumed_inputs=consumed)


@generator("GroupNormalization")
def group_normalization(case: Case) -> None:
    elem = case.type("T")
    groups = case.size(1, 4)
    shape = [case.size(1, 3), groups * case.size(1, 3), *(case.size(1, 5) for _ in range(case.rank(2, 5) - 2))]
    width = [groups if case.version == 18 else shape[1]]
    inputs = [case.input(moderate(case, elem, shape))]
    inputs += [case.input(case.values(elem, width), constant=0.6) for _ in range(2)]
    stash = case.pick(None, TensorProto.FLOAT) if case.version >= 21 else None
    case.node(inputs, outputs=[elem], num_groups=groups, epsilon=epsilon(case), stash_type=stash)


@generator("LayerNormalization")
def layer_normalization(case: Case) -> None:
    elem = case.type("T")
    shape = case.shape(case.rank(1, 5), 1, 7)
    axis = case.axis(len(shape))
    if case.chance(0.3):
        axis = None
    tail = shape[axis if axis is not None else -1 :]
    stash = case.pick(None, TensorProto.FLOAT)
    if elem == TensorProto.BFLOAT16 and (case.chance(0.1) or case.forced.get("U") == elem):
        stash = TensorProto.BFLOAT16
    kept = stash or TensorProto.FLOAT
    inputs = [
        case.input(moderate(case, elem, shape)),
        case.input(moderate(case, elem, part(case, tail)), constant=0.6),
        case.input(moderate(case, elem, part(case, tail)) if case.chance() else None, constant=0.6),
    ]
    wanted = case.pick([elem], [elem], [elem, kept], [elem, kept, kept], [elem, None, kept])
    case.node(inputs, outputs=wanted, axis=axis, epsilon=epsilon(case), stash_type=stash)


def part(case: Case, shape: list[int]) -> list[int]:
    """A shape that can be broadcast to `shape`, the same most of the time."""
    if case.chance(0.8):
        return shape
    smaller = [1 if case.chance(0.4) else extent for extent in shape]
    return smaller[case.size(0, len(smaller)) if case.chance(0.3) else 0 :]


@generator("RMSNormalization")
def rms_normalization(case: Case) -> None:
    elem = case.type("T")
    scale_type = case.type("V", only={elem} if "V" not in case.forced and case.chance(0.8) else None)
    shape = case.shape(case.rank(1, 5), 1, 7)
    axis = case.axis(len(shape))
    if case.chance(0.3):
        axis = None
    tail = shape[axis if axis is not None else -1 :]
    scale = case.values(scale_type, part(case, tail))
    inputs = [case.input(moderate(case, elem, shape)), case.input(scale, constant=0.6)]
    case.node(
        inputs, outputs=[scale_type], axis=axis, epsilon=epsilon(case), stash_type=case.pick(None, TensorProto.FLOAT)
    )


@generator("LRN")
def local_response(case: Case) -> None:
    elem = case.type("T")
    rank = case.pick(4, 4, 4, 3, 5, 2)
    shape = [case.size(1, 2), case.size(1, 9), *(case.size(1, 4) for _ in range(rank - 2))]
    case.node(
        [case.input(moderate(case, elem, shape))],
        outputs=[elem],
        size=case.pick(1, 2, 3, 4, 5, 7),
        alpha=case.pick(None, 0.1, 1.0),
        beta=case.pick(None, 0.5, 1.0),
        bias=case.pick(None, 2.0),
    )


@generator("LpNormalization")
def lp_normalization(case: Case) -> None:
    elem = case.type("T")
    shape = case.shape(case.rank(1, 5), 1, 7)
    axis = None if case.chance(0.3) else case.axis(len(shape))
    x = moderate(case, elem, shape)
    if case.chance(0.1):
        x = np.zeros_like(x)
    case.node([case.input(x)], outputs=[elem], axis=axis, p=case.pick(None, 1, 2))


@generator("MeanVarianceNormalization")
def mean_variance(case: Case) -> None:
    elem = case.type("T")
    axes = None
    shape = case.shape(4, 1, 6)
    if case.chance(0.6):
        shape = case.shape(case.rank(1, 5), 1, 6)
        chosen = case.rng.permutation(len(shape))[: case.size(1, len(shape))]
        axes = [int(axis) - (len(shape) if case.chance(0.3) else 0) for axis in chosen]
    case.node([case.input(moderate(case, elem, shape))], outputs=[elem], axes=axes)


@generator("Softmax", "LogSoftmax", "Hardmax")
def softmax(case: Case) -> None:
    elem = case.type("T")
    shape = case.shape(case.rank(1, 5), 0 if case.chance(0.1) else 1, 11)
    axis = case.axis(len(shape))
    if case.version == 1:
        axis %= len(shape)
    if case.chance(0.3) and (case.version >= 13 or len(shape) > 1):
        axis = None
    x = moderate(case, elem, shape)
    if case.op == "Hardmax" and x.size and case.chance(0.4):
        x = np.rint(x.astype(np.float64)).astype(x.dtype)  # equal numbers: the first is taken
    if case.op != "Hardmax" and x.size and case.chance(0.1):
        x = (x.astype(np.float64) * 50).astype(x.dtype)
    if x.size and case.chance(0.15):  # masked, but for one element of every slice
        line = (1 if case.version < 13 else -1) if axis is None else axis
        masked = case.rng.random(x.shape) < 0.3
        np.moveaxis(masked, line, 0)[0] = False
        x[masked] = -np.inf
    case.node([case.input(x)], outputs=[elem], axis=axis)
