"""Resizing, sampling, cropping, regions and decoding of images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from .case import Case, NotApplicable, generator

INTEGERS = {
    TensorProto.UINT8,
    TensorProto.UINT16,
    TensorProto.UINT32,
    TensorProto.UINT64,
    TensorProto.INT8,
    TensorProto.INT16,
    TensorProto.INT32,
    TensorProto.INT64,
}
FLOATS = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE}
NUMBERS = INTEGERS | FLOATS
TIFF_CODECS = ("tiff_lzw", "tiff_adobe_deflate", "packbits")


def pixels(case: Case, elem: int, shape: list[int]) -> np.ndarray:
    """Values of an image; integers far enough apart that interpolation shows."""
    if elem in INTEGERS:
        return case.values(elem, shape, -100 if elem in (TensorProto.INT8, TensorProto.INT16) else 0, 100)
    return case.values(elem, shape)


def drawn_scales(case: Case, shape: list[int]) -> list[float]:
    """One scale an axis such that no extent becomes 0."""
    scales = [case.pick(1.0, 1.0, 2.0, 3.0, 0.5, 1.5, 0.6, 2.3, 0.75, float(case.rng.uniform(0.3, 3))) for _ in shape]
    return [scale if int(extent * scale) >= 1 else 1.0 for scale, extent in zip(scales, shape)]


@generator("Upsample")
def upsample(case: Case) -> None:
    mode = case.pick(None, "nearest", "linear" if case.version > 1 else "bilinear")
    elem = case.type("T", only=NUMBERS if mode not in (None, "nearest") else None)
    rank = 4 if case.version == 1 or case.chance(0.7) else case.rank(1, 5)
    shape = [case.size(1, 3) for _ in range(rank)]
    scales = [case.pick(1.0, 2.0, 3.0, 1.5, 2.5) for _ in range(rank)]
    if mode not in (None, "nearest") or case.chance(0.5):
        scales = [1.0] * (rank - 2) + scales[-2:]
    x = case.input(pixels(case, elem, shape))
    if case.version == 1:
        case.node([x], outputs=[elem], mode=mode, height_scale=scales[-2], width_scale=scales[-1])
    elif case.version == 7:
        case.node([x], outputs=[elem], mode=mode, scales=scales)
    else:
        case.node([x, case.input(np.array(scales, np.float32), constant=0.8)], outputs=[elem], mode=mode)


def resized_shape(case: Case, mode: str, axes: list[int] | None) -> list[int]:
    """Images, mostly; any rank for the nearest element."""
    rank = 4
    if case.chance(0.4):
        rank = case.rank(1, 5 if mode == "nearest" else 4)
    if axes is not None:
        rank = max(rank, len(axes))
    return [case.size(1, 2 if axis < rank - 3 else 7) for axis in range(rank)]


def resize_attributes(case: Case, mode: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {"mode": mode if mode != "nearest" or case.chance(0.6) else None}
    modes = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "tf_crop_and_resize"]
    if case.version >= 19:
        modes.append("half_pixel_symmetric")
    elif case.version == 11:
        modes.append("tf_half_pixel_for_nn")
    attributes["coordinate_transformation_mode"] = case.pick(None, *modes)
    if mode == "nearest":
        attributes["nearest_mode"] = case.pick(None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    if mode == "cubic":
        attributes["cubic_coeff_a"] = case.pick(None, -0.5)
        attributes["exclude_outside"] = case.pick(None, 0, 1)
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        attributes["extrapolation_value"] = case.pick(None, 1.5)
    return attributes


def resize_10(case: Case) -> None:
    mode = case.pick(None, "nearest", "linear")
    elem = case.type("T", only=NUMBERS if mode == "linear" else None)
    shape = resized_shape(case, mode or "nearest", None)
    scales = drawn_scales(case, shape)
    if mode == "linear":
        scales = [1.0] * (len(shape) - 2) + scales[-2:] if len(shape) > 2 else scales
    inputs = [case.input(pixels(case, elem, shape)), case.input(np.array(scales, np.float32), constant=0.8)]
    case.node(inputs, outputs=[elem], mode=mode)


def resized_axes(case: Case, rank: int, mode: str) -> list[int]:
    """The axes that may change: all for the nearest element, the last two or three otherwise."""
    if mode == "nearest" and case.chance(0.5):
        return list(range(rank))
    count = min(rank, case.pick(1, 2, 2, 2, 3) if mode == "linear" else case.pick(1, 2, 2))
    return list(range(rank - count, rank))


@generator("Resize")
def resize(case: Case) -> None:
    if case.version == 10:
        resize_10(case)
        return
    mode = case.pick("nearest", "linear", "linear", "cubic", "cubic")
    elem = case.type("T1", only=NUMBERS if mode != "nearest" else None)
    roi_type = case.type("T2")
    shape = resized_shape(case, mode, None)
    axes = resized_axes(case, len(shape), mode)
    attributes = resize_attributes(case, mode)
    named = case.version >= 18 and case.chance(0.4)
    if named:
        chosen = [int(axis) for axis in case.rng.permutation(axes)] if case.chance(0.3) else axes
        attributes["axes"] = [axis - len(shape) if case.chance(0.3) else axis for axis in chosen]
        scaled = chosen
    else:
        scaled = list(range(len(shape)))
    scales = [scale if axis in axes else 1.0 for axis, scale in enumerate(drawn_scales(case, shape))]
    by_size = case.chance(0.4)
    sizes = [max(1, int(extent * scale)) for extent, scale in zip(shape, scales)]
    if case.version >= 18:
        attributes["antialias"] = case.pick(None, None, 0, 1) if mode != "nearest" else None
        if by_size:
            attributes["keep_aspect_ratio_policy"] = case.pick(None, "stretch", "not_larger", "not_smaller")
    roi = None
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        starts = [float(case.rng.uniform(0, 0.4)) if axis in axes else 0.0 for axis in scaled]
        ends = [float(case.rng.uniform(0.6, 1.2)) if axis in axes else 1.0 for axis in scaled]
        roi = np.array(starts + ends, helper.tensor_dtype_to_np_dtype(roi_type))
    elif case.version == 11:
        roi = np.zeros([0], helper.tensor_dtype_to_np_dtype(roi_type))
    drawn = np.array([scales[axis] for axis in scaled], np.float32)
    inputs = [case.input(pixels(case, elem, shape)), case.input(roi, constant=0.8)]
    if by_size:
        empty = np.zeros([0], np.float32) if case.version == 11 else None
        inputs += [case.input(empty, constant=True)]
        inputs += [case.input(np.array([sizes[axis] for axis in scaled], np.int64), constant=0.8)]
    else:
        inputs.append(case.input(drawn, constant=0.8))
    case.node(inputs, outputs=[elem], **attributes)


@generator("GridSample")
def grid_sample(case: Case) -> None:
    names = ("nearest", "bilinear", "bicubic") if case.version == 16 else ("nearest", "linear", "cubic")
    mode = case.pick(None, *names)
    elem = case.type("T1", only=FLOATS if mode != "nearest" else None)
    grid_type = case.type("T2")
    space = 2 if case.version == 16 or case.chance(0.7) else 3
    if mode == names[2]:
        space = 2
    batch = case.size(1, 2)
    shape = [batch, case.size(1, 3), *(case.size(1, 6) for _ in range(space))]
    places = [batch, *(case.size(1, 5 if space == 2 else 3) for _ in range(space)), space]
    grid = case.values(grid_type, places, -1.4, 1.4)
    case.node(
        [case.input(pixels(case, elem, shape)), case.input(grid)],
        outputs=[elem],
        mode=mode,
        padding_mode=case.pick(None, "zeros", "border", "reflection"),
        align_corners=case.pick(None, 0, 1),
    )


@generator("AffineGrid")
def affine_grid(case: Case) -> None:
    elem = case.type("T1")
    space = case.pick(2, 2, 3)
    batch = case.size(1, 3)
    size = [batch, case.size(1, 3), *(case.size(1, 6) for _ in range(space))]
    theta = case.values(elem, [batch, space, space + 1])
    case.node(
        [case.input(theta), case.input(np.array(size, np.int64), constant=0.7)],
        outputs=[elem],
        align_corners=case.pick(None, 0, 1),
    )


@generator("RoiAlign")
def roi_align(case: Case) -> None:
    elem = case.type("T1")
    batch, height, width, count = case.size(1, 3), case.size(2, 9), case.size(2, 9), case.size(1, 4)
    scale = case.pick(None, 1.0, 0.5, 2.0)
    corners = case.rng.uniform(0, 1, [count, 2, 2])
    low, high = corners.min(axis=1), corners.max(axis=1)
    extents = np.array([width, height]) / (scale or 1.0)
    spread = case.pick(1.0, 1.0, 1.3)  # regions may reach out of the image
    rois = np.concatenate([low * extents, high * extents * spread], axis=1)
    attributes = {}
    if case.version >= 16:
        attributes["coordinate_transformation_mode"] = case.pick(None, "half_pixel", "output_half_pixel")
    dtype = helper.tensor_dtype_to_np_dtype(elem)
    inputs = [
        case.input(case.values(elem, [batch, case.size(1, 3), height, width])),
        case.input(rois.astype(dtype)),
        case.input(case.rng.integers(0, batch, [count]).astype(np.int64)),
    ]
    case.node(
        inputs,
        outputs=[elem],
        mode=case.pick(None, "avg", "max"),
        output_height=case.pick(None, 1, 2, 3),
        output_width=case.pick(None, 1, 2, 4),
        sampling_ratio=case.pick(None, 0, 1, 2, 3),
        spatial_scale=scale,
        **attributes,
    )


@generator("Col2Im")
def col2im(case: Case) -> None:
    elem = case.type("T")
    rank = case.pick(1, 2, 2, 2, 3)
    block = [case.size(1, 3) for _ in range(rank)]
    strides = [case.pick(1, 1, 2, 3) for _ in range(rank)]
    dilations = [case.pick(1, 1, 2) for _ in range(rank)]
    pads = [case.size(0, 1) if block[axis % rank] > 1 else 0 for axis in range(2 * rank)]
    if case.chance():
        pads = [0] * (2 * rank)
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(block, dilations)]
    image = [max(1, reach[axis] - pads[axis] - pads[axis + rank]) + case.size(0, 4) for axis in range(rank)]
    counts = [(image[axis] + pads[axis] + pads[axis + rank] - reach[axis]) // strides[axis] + 1 for axis in range(rank)]
    shape = [case.size(1, 2), case.size(1, 3) * int(np.prod(block)), int(np.prod(counts))]
    inputs = [
        case.input(case.values(elem, shape)),
        case.input(np.array(image, np.int64), constant=0.7),
        case.input(np.array(block, np.int64), constant=0.7),
    ]
    case.node(
        inputs,
        outputs=[elem],
        strides=strides if strides != [1] * rank or case.chance() else None,
        dilations=dilations if dilations != [1] * rank or case.chance() else None,
        pads=pads if any(pads) or case.chance() else None,
    )


@generator("CenterCropPad")
def center_crop_pad(case: Case) -> None:
    elem, size_type = case.type("T"), case.type("Tind")
    shape = case.shape(case.rank(1, 5), 1, 7)
    axes = list(range(len(shape)))
    attribute = None
    if case.chance(0.6):
        axes = [int(axis) for axis in case.rng.permutation(len(shape))[: case.size(1, len(shape))]]
        attribute = [axis - len(shape) if case.chance(0.3) else axis for axis in axes]
    # What a string is padded with is nowhere said.
    sizes = [case.size(1, shape[axis] if elem == TensorProto.STRING else 8) for axis in axes]
    dtype = helper.tensor_dtype_to_np_dtype(size_type)
    inputs = [case.input(case.values(elem, shape)), case.input(np.array(sizes, dtype), constant=0.7)]
    case.node(inputs, outputs=[elem], axes=attribute)


@generator("NonMaxSuppression")
def non_max_suppression(case: Case) -> None:
    batch, boxes, classes = case.size(1, 2), case.size(1, 12), case.size(1, 3)
    centers = case.rng.uniform(0, 5, [batch, boxes, 2])
    extents = case.rng.uniform(0.5, 3, [batch, boxes, 2])
    centered = case.pick(None, 0, 1)
    if centered:
        values = np.concatenate([centers, extents], axis=2)
    else:
        corners = [centers - extents / 2, centers + extents / 2]
        values = np.concatenate(corners[::-1] if case.chance(0.2) else corners, axis=2)
    scores = case.rng.uniform(0, 1, [batch, classes, boxes])
    if case.chance(0.2):
        scores = np.rint(scores * 4) / 4  # equal scores: the first box is taken
    limit, threshold, least = case.pick(None, 0, 1, 3, 100), case.pick(None, 0.0, 0.3, 0.5), case.pick(None, 0.0, 0.4)

    def scalar(value: Any, dtype: Any) -> np.ndarray | None:
        return None if value is None else np.array(value if case.chance() else [value], dtype)

    inputs = [
        case.input(values.astype(np.float32)),
        case.input(scores.astype(np.float32)),
        case.input(scalar(limit, np.int64), constant=0.7),
        case.input(scalar(threshold, np.float32), constant=0.7),
        case.input(scalar(least, np.float32), constant=0.7),
    ]
    case.node(inputs, outputs=[TensorProto.INT64], center_point_box=centered)


def encodings() -> list[tuple[str, dict[str, Any]]]:
    """Lossless formats with the options that Pillow's encoders take, of those that this build of Pillow has."""
    from PIL import features

    return [
        ("PNG", {}),
        ("PNG", {"optimize": True}),
        ("BMP", {}),
        ("PPM", {}),
        *(
            ("TIFF", {"compression": name})
            for name in ("raw", *TIFF_CODECS)
            if name == "raw" or features.check("libtiff")
        ),
        *([("WEBP", {"lossless": True})] if features.check("webp") else []),
        *(
            [("JPEG2000", {"irreversible": False, "quality_mode": "dB", "quality_layers": [0]})]
            if features.check("jpg_2000")
            else []
        ),
    ]


@generator("ImageDecoder")
def image_decoder(case: Case) -> None:
    case.type("T1"), case.type("T2")
    try:
        from PIL import Image
    except ImportError as error:
        raise NotApplicable("Pillow is not installed") from error
    form = case.pick(None, "RGB", "BGR", "Grayscale")
    height, width = case.size(1, 40), case.size(1, 40)
    gray = form == "Grayscale" and case.chance()
    shape = (height, width) if gray else (height, width, 3)
    picture = case.rng.integers(0, 256, shape)
    if case.chance():  # smooth
        ramp = np.arange(width)[None, :] * 5 + np.arange(height)[:, None] * 3
        picture = (ramp if gray else ramp[:, :, None] + np.array([0, 40, 90])) % 256
    name, options = case.pick(*encodings())
    stream = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(stream, name, **options)
    encoded = np.frombuffer(stream.getvalue(), np.uint8)
    case.node([case.input(encoded, constant=0.2)], outputs=[TensorProto.UINT8], pixel_format=form)
