"""Operators that make tensors and change their shape or the order of their elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from .case import Case, NotApplicable, generator

FLOATS = frozenset({TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.BFLOAT16})
INTEGERS = frozenset({TensorProto.INT32, TensorProto.INT64, TensorProto.INT16})
COMPLEX = frozenset({TensorProto.COMPLEX64, TensorProto.COMPLEX128})


def int64s(values: Sequence[int]) -> np.ndarray:
    return np.array(list(values), np.int64)


def numpy_type(elem_type: int) -> np.dtype:
    return helper.tensor_dtype_to_np_dtype(elem_type)


def moved(case: Case, shape: Sequence[int], name: str = "T", constant: float = 0.1) -> tuple[str, int]:
    """An input of any element type the operator moves, and that type."""
    elem_type = case.type(name)
    special = elem_type in FLOATS and case.chance(0.3)
    return case.input(case.values(elem_type, shape, special=special), constant, elem_type), elem_type


@generator("Compress")
def compress(case: Case) -> None:
    shape = case.shape(case.rank(1))
    axis = case.optional(case.axis(len(shape)))
    if axis is not None and axis < 0 and case.version < 11:
        axis += len(shape)
    extent = math.prod(shape) if axis is None else shape[axis]
    data, elem_type = moved(case, shape)
    condition = case.values(TensorProto.BOOL, [case.size(0, extent) if case.chance(0.3) else extent])
    case.node([data, case.input(condition, 0.3)], [elem_type], axis=axis)


@generator("Concat")
def concat(case: Case) -> None:
    shape = case.shape(case.rank(1))
    axis = case.axis(len(shape))
    if case.version < 11:
        axis %= len(shape)
    if case.version == 1 and len(shape) > 1 and case.chance(0.3):
        axis = None
    inputs, elem_type = [], 0
    for _ in range(case.size(1, 5)):
        piece = list(shape)
        piece[1 if axis is None else axis] = case.pick(0, 1, 2, 3, 5)
        name, elem_type = moved(case, piece)
        inputs.append(name)
    case.node(inputs, [elem_type], axis=axis)


@generator("Constant")
def constant(case: Case) -> None:
    elem_type = case.type("T")
    shape = case.shape()
    values = case.values(elem_type, shape, special=elem_type in FLOATS and case.chance(0.3))
    forms = {TensorProto.FLOAT: "float", TensorProto.INT64: "int", TensorProto.STRING: "string"}
    if case.version >= 12 and elem_type in forms and case.chance(0.6):
        items = values.ravel().tolist()
        form = f"value_{forms[elem_type]}"
        attribute = {form: items[0]} if items and case.chance() else {form + "s": items}
        if not items:
            raise NotApplicable("an empty list of attributes has no type")
        case.node([], [elem_type], **attribute)
        return
    if (
        case.version >= 11
        and elem_type in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE)
        and shape
        and math.prod(shape)
        and case.chance(0.2)
    ):
        case.node([], [elem_type], sparse_value=sparse(case, values))
        return
    case.node([], [elem_type], value=numpy_helper.from_array(values, "value"))


def sparse(case: Case, values: np.ndarray) -> helper.SparseTensorProto:
    """Some elements of `values`, the others zero; indices are linear or coordinates."""
    kept = np.flatnonzero(case.rng.random(values.size) < 0.5)
    indices = kept if case.chance() else np.stack(np.unravel_index(kept, values.shape), 1)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(values.ravel()[kept], "values"),
        numpy_helper.from_array(indices.astype(np.int64), "indices"),
        list(values.shape),
    )


@generator("ConstantOfShape")
def constant_of_shape(case: Case) -> None:
    elem_type = case.type("T2")
    value = numpy_helper.from_array(case.values(elem_type, [1]), "value")
    if elem_type == TensorProto.FLOAT and case.chance(0.3):
        value = None
    case.node([case.input(int64s(case.shape()), 0.5)], [elem_type], value=value)


@generator("DepthToSpace")
def depth_to_space(case: Case) -> None:
    block = case.size(1, 3)
    shape = case.shape(4, high=5)
    shape[1] = block * block * case.size(0 if case.chance(0.1) else 1, 3)
    data, elem_type = moved(case, shape)
    mode = case.pick(None, "DCR", "CRD") if case.version >= 11 else None
    case.node([data], [elem_type], blocksize=block, mode=mode)


@generator("SpaceToDepth")
def space_to_depth(case: Case) -> None:
    block = case.size(1, 3)
    shape = case.shape(4, high=3)
    shape = shape[:2] + [extent * block for extent in shape[2:]]
    data, elem_type = moved(case, shape)
    mode = case.pick(None, "DCR", "CRD") if case.version >= 28 else None
    case.node([data], [elem_type], blocksize=block, mode=mode)


@generator("EyeLike")
def eye_like(case: Case) -> None:
    data, elem_type = moved(case, case.shape(2, high=11), "T1")
    result = case.type("T2") if case.chance(0.6) else None
    case.node([data], [elem_type if result is None else result], dtype=result, k=case.pick(None, 0, 1, -1, 3, -4, 20))


@generator("Expand")
def expand(case: Case) -> None:
    target = case.shape()
    extents = [extent if case.chance(0.6) else 1 for extent in target]
    shape = extents[case.size(0, len(extents)) :]
    asked = [1 if extent == own and case.chance(0.3) else extent for extent, own in zip(target, extents)]
    if len(shape) == len(target):
        asked = asked[case.size(0, len(asked)) :]
    data, elem_type = moved(case, shape)
    case.node([data, case.input(int64s(asked), 0.5)], [elem_type])


@generator("Flatten")
def flatten(case: Case) -> None:
    shape = case.shape(case.rank(0 if case.version >= 9 else 1))
    axis = case.size(-len(shape) if case.version >= 11 else 0, len(shape))
    data, elem_type = moved(case, shape)
    case.node([data], [elem_type], axis=None if shape and case.chance(0.2) else axis)


@generator("Identity")
def identity(case: Case) -> None:
    if case.version < 14:
        data, elem_type = moved(case, case.shape())
        case.node([data], [elem_type])
        return
    kind = case.variable_type("V")
    elem_type = int(TensorProto.DataType.Value(kind.split("tensor(")[1].split(")")[0].upper()))
    if "seq" in kind:
        value: object = [case.values(elem_type, case.shape(high=5)) for _ in range(case.size(0, 4))]
    else:
        value = case.values(elem_type, case.shape())
    if kind.startswith("optional") and case.chance(0.3):
        value = None
    if kind.startswith("tensor"):
        case.node([case.input(value, 0.1, elem_type)], [elem_type])
    else:
        case.node([case.input(value, elem_type=kind)], [kind])


@generator("NonZero")
def non_zero(case: Case) -> None:
    elem_type = case.type("T")
    shape = case.shape()
    values = case.values(elem_type, shape, special=elem_type in FLOATS and case.chance(0.2))
    zero = "" if elem_type == TensorProto.STRING else False
    values = np.where(case.rng.random(tuple(shape)) < 0.5, values, np.array(zero).astype(values.dtype))
    case.node([case.input(values.astype(numpy_type(elem_type)), 0.2)], [TensorProto.INT64])


@generator("OneHot")
def one_hot(case: Case) -> None:
    # onnxruntime has a few combinations of types only.
    plain = case.chance()
    index_type = case.type("T1", only=[TensorProto.INT64, TensorProto.FLOAT, TensorProto.INT32] if plain else None)
    depth_type = case.type("T2", only=[TensorProto.INT64] if plain else None)
    elem_type = case.type("T3")
    depth = case.size(1, 7)
    unsigned = numpy_type(index_type).kind == "u"
    shape = case.shape(case.rank(0, 5), high=5)
    indices = case.values(index_type, shape, 0 if unsigned else -depth, depth - 1)
    if numpy_type(index_type).kind not in "iu":
        indices = np.trunc(indices.astype(np.float64)).astype(indices.dtype)
    if case.chance(0.3) and indices.size:
        indices.ravel()[0] = depth + 2
    values = case.values(elem_type, [2])
    inputs = [
        case.input(indices),
        case.input(np.full(case.pick([], [1]), depth).astype(numpy_type(depth_type)), 0.5),
        case.input(values, 0.3),
    ]
    case.node(inputs, [elem_type], axis=case.optional(case.axis(len(shape) + 1)))


def pad_widths(case: Case, extents: list[int], mode: str | None) -> list[int]:
    """Numbers to add or remove at both ends of axes, such that the mode is defined."""
    begins, ends = [], []
    for extent in extents:
        limit = {"reflect": extent - 1, "edge": 4, "wrap": extent}.get(mode or "constant", 4)
        if extent == 0 and mode not in (None, "constant"):
            limit = 0
        begin, end = case.size(0, max(limit, 0)), case.size(0, max(limit, 0))
        if case.chance(0.06):
            begin = -case.size(0, extent)
            end = min(end, extent + begin - 1) if mode == "reflect" else end
        elif case.chance(0.06):
            end = -case.size(0, extent)
        if mode not in (None, "constant") and min(begin, end) < 0:
            begin, end = min(begin, 0), min(end, 0)
            end = max(end, 1 - extent - begin) if extent + begin >= 1 else 0
        if extent + begin + end < 0:
            begin, end = max(begin, 0), 0
        begins.append(begin)
        ends.append(end)
    return begins + ends


@generator("Pad")
def pad(case: Case) -> None:
    modes = [None, "constant", "reflect", "edge"] + (["wrap"] if case.version >= 19 else [])
    mode = case.pick(*modes)
    shape = case.shape(case.rank(0 if case.version >= 13 else 1, 5), high=5)
    data, elem_type = moved(case, shape)
    if case.version < 11:
        name = "paddings" if case.version == 1 else "pads"
        value = case.pick(None, 0.0, -1.5) if mode in (None, "constant") else None
        case.node([data], [elem_type], mode=mode, value=value, **{name: pad_widths(case, shape, mode)})
        return
    axes = None
    if case.version >= 18 and case.chance():
        axes = [int(axis) for axis in case.rng.permutation(len(shape))[: case.size(0, len(shape))]]
    widths = pad_widths(case, shape if axes is None else [shape[axis] for axis in axes], mode)
    value = None
    if mode in (None, "constant") and case.chance(0.6):
        value = case.values(elem_type, case.pick([], [1]) if case.chance(0.3) else [])
    if axes is not None:
        axes = np.array(
            [axis - len(shape) if case.chance(0.3) else axis for axis in axes], case.pick(np.int32, np.int64)
        )
    inputs = [data, case.input(int64s(widths), 0.5), case.input(value, 0.3), case.input(axes, 0.5)]
    case.node(inputs, [elem_type], mode=mode)


@generator("Range")
def arange(case: Case) -> None:
    elem_type = case.type("T")
    dtype = numpy_type(elem_type)
    delta = case.pick(1, 2, 3, -1, -2, 5)
    start = case.size(-20, 20)
    limit = start + delta * case.size(-3, 12) + case.size(0, 1)
    numbers = [start, limit, delta]
    if elem_type in FLOATS and case.chance():
        numbers = [start + 0.5, limit + 0.25, delta * 0.5]
    stash = case.pick(None, 1) if case.version >= 27 else None
    case.node([case.input(np.array(number).astype(dtype), 0.4) for number in numbers], [elem_type], stash_type=stash)


def factors(case: Case, total: int, rank: int) -> list[int]:
    """A random shape of `rank` with `total` elements."""
    shape = [1] * rank
    remaining, divisor = total, 2
    while remaining > 1:
        if remaining % divisor == 0:
            shape[case.size(0, rank - 1)] *= divisor
            remaining //= divisor
        else:
            divisor += 1
    return shape


def reshaped(case: Case, shape: list[int], allow_zero: bool) -> list[int]:
    """What to ask of Reshape: extents, one of them perhaps -1, zeros where an extent is kept."""
    total = math.prod(shape)
    if total == 0:
        keep = shape.index(0)
        if allow_zero:
            target = [case.size(0, 3) for _ in range(case.size(1, 5))]
            target[case.size(0, len(target) - 1)] = 0
            return target
        target = [extent if index <= keep else case.size(1, 3) for index, extent in enumerate(shape)]
        return [
            0 if extent == shape[index] and (extent == 0 or case.chance(0.3)) else extent
            for index, extent in enumerate(target)
        ]
    if total == 1 and case.chance(0.3):
        return []
    target = factors(case, total, case.size(1, 6))
    if not allow_zero:
        target = [
            0 if index < len(shape) and extent == shape[index] and case.chance(0.4) else extent
            for index, extent in enumerate(target)
        ]
    if case.chance(0.4):
        target[case.size(0, len(target) - 1)] = -1
    return target


@generator("Reshape")
def reshape(case: Case) -> None:
    shape = case.shape()
    allow_zero = case.pick(None, 0, 1) if case.version >= 14 else None
    data, elem_type = moved(case, shape)
    target = reshaped(case, shape, allow_zero == 1)
    if case.version < 5:
        if not target:
            raise NotApplicable("a list attribute needs elements")
        case.node([data], [elem_type], shape=target)
    else:
        case.node([data, case.input(int64s(target), 0.5)], [elem_type], allowzero=allow_zero)


@generator("ReverseSequence")
def reverse_sequence(case: Case) -> None:
    shape = case.shape(case.rank(2))
    batch = case.pick(0, 1)
    lengths = int64s(case.size(min(1, shape[1 - batch]), shape[1 - batch]) for _ in range(shape[batch]))
    data, elem_type = moved(case, shape)
    default = batch == 1 and case.chance()
    case.node(
        [data, case.input(lengths, 0.3)],
        [elem_type],
        batch_axis=None if default else batch,
        time_axis=None if default else 1 - batch,
    )


@generator("Shape")
def shape_operator(case: Case) -> None:
    shape = case.shape()
    data, _ = moved(case, shape)
    bound = len(shape) + 2
    start = case.optional(case.size(-bound, bound)) if case.version >= 15 else None
    end = case.optional(case.size(-bound, bound)) if case.version >= 15 else None
    case.node([data], [TensorProto.INT64], start=start, end=end)


@generator("Size")
def size_operator(case: Case) -> None:
    data, _ = moved(case, case.shape())
    case.node([data], [TensorProto.INT64])


@generator("Slice")
def slice_operator(case: Case) -> None:
    shape = case.shape(case.rank(1))
    axes = [int(axis) for axis in case.rng.permutation(len(shape))[: case.size(1, len(shape))]]
    whole = case.chance(0.3)
    if whole:
        axes = list(range(case.size(1, len(shape))))
    limits = [shape[axis] + 2 for axis in axes]
    starts = [case.pick(0, case.size(-limit, limit)) for limit in limits]
    ends = [case.pick(limit, -1, case.size(-limit, limit), 2**31 - 1, 2**63 - 1, -limit) for limit in limits]
    data, elem_type = moved(case, shape)
    if case.version < 10:
        case.node([data], [elem_type], starts=starts, ends=ends, axes=None if whole else axes)
        return
    dtype = numpy_type(case.type("Tind"))
    steps = None
    if case.chance(0.6):
        steps = [case.pick(1, 2, 3, -1, -2, -5, 2**31 - 1) for _ in axes]
        ends = [
            end if step > 0 or case.chance(0.3) else case.pick(-limit - 3, -(2**31) + 1)
            for end, step, limit in zip(ends, steps, limits)
        ]
    if dtype == np.int32:
        ends = [min(end, 2**31 - 1) for end in ends]
    if not whole and case.version >= 11:
        axes = [axis - len(shape) if case.chance(0.3) else axis for axis in axes]
    part = case.pick(0, 0.5, 1)
    lists = [starts, ends, None if whole else axes, steps]
    inputs = [case.input(None if numbers is None else np.array(numbers, dtype), part) for numbers in lists]
    case.node([data, *inputs], [elem_type])


@generator("Split")
def split(case: Case) -> None:
    shape = case.shape(case.rank(1))
    axis = case.axis(len(shape))
    if case.version < 11:
        axis %= len(shape)
    count = case.size(1, 4)
    given = case.chance(0.6)
    uneven = case.version >= 18 and not given and case.chance()
    sizes = [case.size(0, 4) for _ in range(count)] if given else [case.size(1, 3)] * count
    shape[axis] = sum(sizes)
    if uneven:
        shape[axis] = case.size(1, 11)
    data, elem_type = moved(case, shape)
    form = None if axis == 0 and case.chance() else axis
    outputs = [elem_type] * count
    if case.version < 13:
        case.node([data], outputs, axis=form, split=sizes if given else None)
        return
    numbers = count if case.version >= 18 and not given else None
    case.node([data, case.input(int64s(sizes) if given else None, 0.5)], outputs, axis=form, num_outputs=numbers)


@generator("Squeeze")
def squeeze(case: Case) -> None:
    shape = case.shape()
    shape = [1 if case.chance() else extent for extent in shape]
    ones = [axis for axis, extent in enumerate(shape) if extent == 1]
    axes = None
    if case.chance(0.7):
        axes = [int(axis) for axis in case.rng.permutation(ones)[: case.size(0, len(ones))]]
        if case.version >= 11:
            axes = [axis - len(shape) if case.chance(0.3) else axis for axis in axes]
    data, elem_type = moved(case, shape)
    if case.version < 13:
        case.node([data], [elem_type], axes=axes or None)
    else:
        case.node([data, case.input(None if axes is None else int64s(axes), 0.5)], [elem_type])


@generator("Unsqueeze")
def unsqueeze(case: Case) -> None:
    shape = case.shape(case.rank(0, 4))
    count = case.size(1, 3)
    rank = len(shape) + count
    axes = [int(axis) for axis in case.rng.permutation(rank)[:count]]
    if case.version >= 11:
        axes = [axis - rank if case.chance(0.3) else axis for axis in axes]
    data, elem_type = moved(case, shape)
    if case.version < 13:
        case.node([data], [elem_type], axes=axes)
        return
    case.node([data, case.input(int64s(axes), 0.5)], [elem_type])


@generator("TensorScatter")
def tensor_scatter(case: Case) -> None:
    shape = case.shape(case.rank(2, 5), 1, 5)
    axis = case.size(1, len(shape) - 1)
    length = shape[axis]
    mode = case.pick(None, "linear", "circular")
    update = list(shape)
    update[axis] = case.size(1, length)
    room = length - update[axis] if mode != "circular" else 2 * length
    indices = int64s(case.size(0, room) for _ in range(shape[0])) if case.chance(0.8) else None
    elem_type = case.type("T")
    inputs = [case.input(case.values(elem_type, extents), 0.1, elem_type) for extents in (shape, update)]
    form = None if axis == len(shape) - 2 and case.chance() else axis - case.pick(0, len(shape))
    case.node([*inputs, case.input(indices, 0.3)], [elem_type], axis=form, mode=mode)


@generator("Tile")
def tile(case: Case) -> None:
    shape = case.shape(case.rank(1 if case.version == 1 else 0, 5), high=5)
    data, elem_type = moved(case, shape)
    if case.version == 1:
        dtype = numpy_type(elem_type)
        numbers = [case.size(1, 4), case.size(0, len(shape) - 1)]
        case.node([data] + [case.input(np.array([number]).astype(dtype), 0.5) for number in numbers], [elem_type])
        return
    repeats = int64s(case.pick(1, 1, 2, 3, 0 if case.chance(0.2) else 1) for _ in shape)
    case.node([data, case.input(repeats, 0.5)], [elem_type])


@generator("TopK")
def top_k(case: Case) -> None:
    shape = case.shape(case.rank(1))
    axis = case.axis(len(shape))
    if case.version < 11:
        axis %= len(shape)
    extent = shape[axis]
    k = case.size(0 if case.chance(0.1) else min(1, extent), extent)
    data, elem_type = moved_numbers(case, shape)
    form = None if axis in (-1, len(shape) - 1) and case.chance() else axis
    outputs = [elem_type, TensorProto.INT64]
    if case.version == 1:
        case.node([data], outputs, axis=form, k=k)
        return
    largest = case.pick(None, 0, 1) if case.version >= 11 else None
    ordered = case.pick(None, 1, 0 if k <= 1 else 1) if case.version >= 11 else None
    case.node([data, case.input(int64s([k]), 0.5)], outputs, axis=form, largest=largest, sorted=ordered)


def moved_numbers(case: Case, shape: Sequence[int]) -> tuple[str, int]:
    """An input of numbers with many equal ones; floats may be infinite, but not NaN."""
    elem_type = case.type("T")
    dtype = numpy_type(elem_type)
    low = 0 if dtype.kind == "u" else -4
    values = case.rng.integers(low, 5, tuple(shape)).astype(np.float64)
    if elem_type in FLOATS and case.chance(0.3):
        values = values + case.rng.standard_normal(tuple(shape))
        if values.size:
            values.ravel()[case.size(0, values.size - 1)] = case.pick(math.inf, -math.inf, -0.0)
    return case.input(values.astype(dtype), 0.1, elem_type), elem_type


@generator("Transpose")
def transpose(case: Case) -> None:
    shape = case.shape()
    data, elem_type = moved(case, shape)
    perm = [int(axis) for axis in case.rng.permutation(len(shape))]
    case.node([data], [elem_type], perm=perm if perm and case.chance(0.8) else None)


@generator("Trilu")
def trilu(case: Case) -> None:
    data, elem_type = moved(case, case.shape(case.rank(2)))
    k = np.array(case.pick(0, 1, -1, 2, -3, 20, -20), np.int64) if case.chance(0.7) else None
    case.node([data, case.input(k, 0.5)], [elem_type], upper=case.pick(None, 0, 1))


@generator("Unique")
def unique(case: Case) -> None:
    # Complex numbers have no order that all agree on, so they come up only where they are asked for.
    elem_type = case.type("T", but=() if "T" in case.forced else COMPLEX)
    shape = case.shape(case.rank(1, 4), high=5)
    axis = case.optional(case.axis(len(shape)))
    if elem_type == TensorProto.STRING:
        values = case.rng.choice(np.array(["a", "b", "ab", "é", "Z", ""], object), tuple(shape))
    elif elem_type == TensorProto.BOOL:
        values = case.values(elem_type, shape)
    else:
        dtype = numpy_type(elem_type)
        values = case.rng.integers(0 if dtype.kind == "u" else -2, 3, tuple(shape)).astype(dtype)
    wanted = [TensorProto.INT64 if case.chance(0.8) else None for _ in range(3)]
    case.node([case.input(values, 0.1, elem_type)], [elem_type, *wanted], axis=axis, sorted=case.pick(None, 0, 1))
