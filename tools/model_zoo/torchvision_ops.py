"""Imports torchvision beside a CPU build of torch.

The registry's torchvision is built for CUDA and then cannot load its compiled operators. The models need only one of
them, non-maximum suppression, which is declared here in Python before torchvision looks for it.
"""

from __future__ import annotations

import torch

SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def non_maximum_suppression(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Indices of the boxes (corner form) that no better-scored kept box overlaps by more than `threshold`."""
    order = scores.argsort(descending=True, stable=True)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    alive = torch.ones(len(boxes), dtype=torch.bool)
    for index in order.tolist():
        if not alive[index]:
            continue
        kept.append(index)
        low = torch.maximum(boxes[:, :2], boxes[index, :2])
        high = torch.minimum(boxes[:, 2:], boxes[index, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        alive &= shared / (area + area[index] - shared) <= threshold
    return torch.tensor(kept, dtype=torch.int64)


if torch.version.cuda is None:
    library = torch.library.Library("torchvision", "DEF")  # must live as long as its operators
    library.define("nms" + SIGNATURE)
    library.define("qnms" + SIGNATURE)
    library.impl("nms", non_maximum_suppression, "CPU")

import torchvision  # noqa: E402


def operators_present() -> bool:
    return True


torchvision.extension._has_ops = operators_present  # torchvision asks before it calls non-maximum suppression
