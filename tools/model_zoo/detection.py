"""Object detectors that end in NonMaxSuppression."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn
from torch.export import Dim

from model_inputs import InputSpec, ModelSpec, make_feeds
from model_zoo import Builder
from model_zoo.torch_export import calibrate_batch_norm, check, export, export_legacy, seed
from model_zoo.torchvision_ops import torchvision


def check_margins(path: Path, spec: ModelSpec) -> ModelSpec:
    """Asks that no box hangs on the last bits of a score: inputs moved by 1e-5 must give the same boxes, almost."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for binding in spec.shapes:
        feeds = make_feeds(path, spec, binding)
        moved = {name: (value * (1 + 1e-5)).astype(value.dtype) for name, value in feeds.items()}
        for one, other in zip(session.run(None, feeds), session.run(None, moved), strict=True):
            if one.shape[0] < 3:
                raise ValueError(f"{path.name} {binding}: only {one.shape[0]} boxes")
            np.testing.assert_allclose(one, other, rtol=1e-2, atol=2e-2, err_msg=f"{path.name} {binding}")
    return spec


def stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


class Detector(nn.Module):
    """A one-scale, anchor-free detector of one class: a box and a score for each cell of 16×16 pixels.

    Scores pass a threshold (NonZero), then non-maximum suppression; both make sizes that depend on the image.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            stage(3, width), stage(width, 2 * width), stage(2 * width, 2 * width), stage(2 * width, 4 * width)
        )
        self.head = nn.Conv2d(4 * width, 5, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.head(self.backbone(image))[0]
        rows = torch.arange(maps.shape[1], dtype=torch.float32)
        columns = torch.arange(maps.shape[2], dtype=torch.float32)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centre = (torch.stack([x, y]) + torch.sigmoid(maps[:2])) * 16
        half = torch.exp(maps[2:4].clamp(-1, 1)) * 16
        boxes = torch.cat([centre - half, centre + half]).flatten(1).t()
        scores = torch.sigmoid(maps[4]).flatten()
        likely = torch.nonzero(scores > 0.6).squeeze(1)
        boxes, scores = boxes[likely], scores[likely]
        kept = torch.ops.torchvision.nms(boxes, scores, 0.4)
        return boxes[kept], scores[kept]


def export_detector(path: Path) -> ModelSpec:
    seed()
    model = Detector()
    nn.init.normal_(model.head.weight, std=0.3)
    calibrate_batch_norm(model, torch.randn(1, 3, 256, 256))
    shapes = ({2: Dim("height", min=32, max=4096), 3: Dim("width", min=32, max=4096)},)
    export(model, (torch.randn(1, 3, 160, 192),), path, ["image"], ["boxes", "scores"], shapes)
    spec = ModelSpec(
        {"image": InputSpec("normal")},
        [{"height": 128, "width": 160}, {"height": 96, "width": 96}, {"height": 131, "width": 203}],
        {"height": 128, "width": 160},
    )
    return check_margins(path, check(model, path, spec))


class SSD(nn.Module):
    """torchvision's SSDlite on one image: its boxes, scores and labels."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
            weights=None,
            weights_backbone=None,
            num_classes=4,
            score_thresh=0.5,
            topk_candidates=40,
            detections_per_img=12,
        )

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = self.model([image])[0]
        return found["boxes"], found["scores"], found["labels"]


def calibrate_ssd(model: SSD) -> None:
    """Sets the backbone's and heads' statistics, and spreads the class scores."""
    parts = nn.ModuleDict({"backbone": model.model.backbone, "head": model.model.head})

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = parts

        def forward(self, images):
            return self.parts["head"](list(self.parts["backbone"](images).values()))

    for name, parameter in parts["head"].classification_head.named_parameters():
        if name.endswith("1.weight"):
            nn.init.normal_(parameter, std=0.04)
    calibrate_batch_norm(Features(), torch.randn(8, 3, 320, 320))


def export_ssdlite(path: Path) -> ModelSpec:
    seed()
    model = SSD()
    calibrate_ssd(model)
    export_legacy(
        model.eval(),
        (torch.rand(3, 320, 320),),
        path,
        ["image"],
        ["boxes", "scores", "labels"],
        {"boxes": {0: "found"}, "scores": {0: "found"}, "labels": {0: "found"}},
    )
    spec = ModelSpec({"image": InputSpec("uniform", 0, 1)})
    return check_margins(path, check(model, path, spec))


MODELS: dict[str, Builder] = {"detector": export_detector, "ssdlite_opset13": export_ssdlite}
