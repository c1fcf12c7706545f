"""Pooling over windows, over whole images and over regions."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .case import Case, generator
from .windows import spatial_rank, window


def image_shape(case: Case, extents: list[int]) -> list[int]:
    return [0 if case.chance(0.03) else case.size(1, 2), case.size(1, 4), *extents]


@generator("MaxPool")
def max_pool(case: Case) -> None:
    elem = case.type("T")
    drawn = window(case, spatial_rank(case), dilated=case.version >= 10)
    attributes = dict(drawn.attributes)
    indices = case.version >= 8 and case.chance(0.4)
    if case.version >= 8:
        attributes["storage_order"] = case.pick(None, 0, 1) if indices else None
    if case.version >= 10:
        attributes["ceil_mode"] = case.pick(None, 0, 1)
    low, high = (None, None) if elem not in (TensorProto.INT8, TensorProto.UINT8) else (-128, 127)
    if elem == TensorProto.UINT8:
        low, high = 0, 255
    x = case.values(elem, image_shape(case, drawn.extents), low, high)
    case.node([case.input(x)], outputs=[elem] + ([TensorProto.INT64] if indices else []), **attributes)


@generator("AveragePool", "LpPool")
def mean_pool(case: Case) -> None:
    elem = case.type("T")
    attributes_since = 19 if case.op == "AveragePool" else 18
    drawn = window(case, spatial_rank(case), dilated=case.version >= attributes_since)
    attributes = dict(drawn.attributes)
    if case.version >= (10 if case.op == "AveragePool" else 18):
        attributes["ceil_mode"] = case.pick(None, 0, 1)
    if case.op == "AveragePool":
        attributes["count_include_pad"] = case.pick(None, 0, 1) if case.version >= 7 else None
    else:
        attributes["p"] = case.pick(None, 1.0, 2.0, 3.0, 1.5) if case.version == 1 else case.pick(None, 1, 2, 3, 4)
    case.node([case.input(case.values(elem, image_shape(case, drawn.extents)))], outputs=[elem], **attributes)


@generator("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(case: Case) -> None:
    elem = case.type("T")
    rank = spatial_rank(case, 1, 4)
    extents = [case.size(1, 5 if rank > 2 else 9) for _ in range(rank)]
    attributes = {}
    if case.op == "GlobalLpPool":
        attributes["p"] = case.pick(None, 1.0, 2.0, 3.0, 1.5) if case.version == 1 else case.pick(None, 1, 2, 3, 4)
    case.node([case.input(case.values(elem, image_shape(case, extents)))], outputs=[elem], **attributes)


@generator("MaxUnpool")
def max_unpool(case: Case) -> None:
    elem = case.type("T1")
    rank = spatial_rank(case)
    kernel = [case.size(1, 3) for _ in range(rank)]
    strides = list(kernel) if case.chance() else [case.size(1, 3) for _ in range(rank)]
    extents = [case.size(1, 4) for _ in range(rank)]
    pads = [case.size(0, 1) if kernel[axis % rank] > 2 else 0 for axis in range(2 * rank)]
    if case.chance(0.6):
        pads = [0] * (2 * rank)
    shape = [case.size(1, 2), case.size(1, 3), *extents]
    plain = [
        strides[axis] * (extents[axis] - 1) + kernel[axis] - pads[axis] - pads[axis + rank] for axis in range(rank)
    ]
    output = [*shape[:2], *plain]
    output_shape = None
    if case.chance(0.4):
        output = [*shape[:2], *(extent + case.size(0, 3) for extent in plain)]
        output_shape = np.array(output, np.int64)
    planes, places, taken = shape[0] * shape[1], int(np.prod(plain)), int(np.prod(extents))
    if places < taken:
        places = taken
    # The indices are those of the tensor that was pooled: the plain one.
    indices = np.stack([plane * places + case.rng.permutation(places)[:taken] for plane in range(planes)])
    inputs = [
        case.input(case.values(elem, shape)),
        case.input(indices.reshape(shape).astype(np.int64)),
        case.input(output_shape, constant=0.6),
    ]
    strides_attribute = strides if case.chance(0.5) or strides != [1] * rank else None
    case.node(
        inputs,
        outputs=[elem],
        kernel_shape=kernel,
        strides=strides_attribute,
        pads=pads if any(pads) or case.chance(0.3) else None,
    )


@generator("MaxRoiPool")
def max_roi_pool(case: Case) -> None:
    elem = case.type("T")
    n, c, height, width = case.size(1, 3), case.size(1, 3), case.size(1, 9), case.size(1, 9)
    count = case.size(0, 4) if case.chance(0.1) else case.size(1, 4)
    scale = case.pick(None, 1.0, 0.5, 0.25, 2.0)
    factor = scale or 1.0
    rois = np.zeros([count, 5])
    rois[:, 0] = case.rng.integers(0, n, count)
    for axis, extent in ((1, width), (2, height)):
        # Whole pixels after scaling, so that rounding does not depend on the precision.
        ends = np.sort(case.rng.integers(0, extent, (count, 2)), axis=1)
        rois[:, axis], rois[:, axis + 2] = ends[:, 0] / factor, ends[:, 1] / factor
    kind = case.values(elem, []).dtype
    inputs = [case.input(case.values(elem, [n, c, height, width])), case.input(rois.astype(kind))]
    case.node(inputs, outputs=[elem], pooled_shape=[case.size(1, 4), case.size(1, 4)], spatial_scale=scale)
