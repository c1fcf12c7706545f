"""Random windows over spatial axes, and values for long sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from .case import Case


@dataclass
class Window:
    """A window and the attributes that describe it; attributes at their default may be absent (None)."""

    extents: list[int]
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]
    auto_pad: str | None
    attributes: dict[str, Any]

    @property
    def reach(self) -> list[int]:
        """The extent that the window covers on every axis."""
        return [(kernel - 1) * dilation + 1 for kernel, dilation in zip(self.kernel, self.dilations)]

    def outputs(self) -> list[int]:
        """Numbers of places along every axis, rounding down; of no use with SAME_UPPER and SAME_LOWER."""
        rank = len(self.kernel)
        return [
            (self.extents[axis] + self.pads[axis] + self.pads[axis + rank] - self.reach[axis]) // self.strides[axis] + 1
            for axis in range(rank)
        ]


def spatial_rank(case: Case, low: int = 1, high: int = 3) -> int:
    """Two axes most of the time."""
    high = max(low, min(high, case.max_rank - 2))
    return 2 if high >= 2 and low <= 2 and case.chance(0.5) else case.size(low, high)


def window(case: Case, rank: int, dilated: bool = True, automatic: bool = True, largest: int = 4) -> Window:
    """A window that has at least one place on every axis."""
    kernel = [case.size(1, largest) for _ in range(rank)]
    if case.chance(0.2):
        kernel = [kernel[0]] * rank
    dilations = [case.pick(1, 1, 2, 3) if dilated and size > 1 else 1 for size in kernel]
    if case.chance(0.6):
        dilations = [1] * rank
    strides = [case.pick(1, 1, 2, 3) for _ in range(rank)]
    if case.chance(0.3):
        strides = [1] * rank
    auto_pad = case.pick("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET") if automatic and case.chance(0.4) else None
    pads = [0] * (2 * rank)
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations)]
    if auto_pad in (None, "NOTSET") and case.chance(0.6):
        pads = [case.size(0, min(3, reach[axis % rank] - 1)) for axis in range(2 * rank)]
    room = 5 if rank == 3 else 9
    extents = [max(1, reach[axis] - pads[axis] - pads[axis + rank]) + case.size(0, room) for axis in range(rank)]
    if auto_pad in ("SAME_UPPER", "SAME_LOWER") and case.chance(0.2):
        extents = [case.size(1, 3) for _ in range(rank)]
    attributes = {
        "kernel_shape": kernel,
        "strides": strides if case.chance(0.5) or strides != [1] * rank else None,
        "dilations": (dilations if case.chance(0.5) or dilations != [1] * rank else None) if dilated else None,
        "pads": pads if (case.chance(0.3) and auto_pad in (None, "NOTSET")) or any(pads) else None,
        "auto_pad": auto_pad,
    }
    return Window(extents, kernel, strides, dilations, pads, auto_pad, attributes)


def moderate(case: Case, elem: int, shape: list[int]) -> np.ndarray:
    """Normal numbers about as large as 1, whose products and sums stay small; other types as `values` gives them."""
    drawn = case.values(elem, shape)
    if elem in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return np.asarray(drawn.astype(np.float64) / 2).astype(drawn.dtype)
    return drawn
