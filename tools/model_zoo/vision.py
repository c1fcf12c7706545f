"""Image classifiers from torchvision, and a U-Net of our own."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from model_inputs import InputSpec, ModelSpec
from model_zoo import Builder
from model_zoo.torch_export import calibrate_batch_norm, check, export, export_legacy, seed
from model_zoo.torchvision_ops import torchvision


def classifier(name: str, size: int) -> nn.Module:
    """A torchvision model with seeded random weights and sane activations."""
    seed()
    options = {"init_weights": True} if name == "inception_v3" else {}
    model = getattr(torchvision.models, name)(weights=None, **options)
    if name == "vit_b_16":
        nn.init.normal_(model.heads.head.weight, std=0.05)  # torchvision starts the head at zero
    if name == "inception_v3":
        model.fc.reset_parameters()  # torchvision's start makes logits of hundreds
    if name == "convnext_tiny":
        for layer in model.modules():
            if hasattr(layer, "layer_scale"):
                nn.init.uniform_(layer.layer_scale, 0.2, 0.4)  # torchvision's start leaves blocks without effect
    for layer in model.modules():
        if isinstance(layer, nn.LayerNorm):
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.normal_(layer.bias, std=0.1)
    return calibrate_batch_norm(model, torch.randn(8, 3, size, size))


def image_spec(dynamic: bool) -> ModelSpec:
    shapes = [{"batch": size} for size in (1, 2, 5)] if dynamic else [{}]
    return ModelSpec({"image": InputSpec("normal")}, shapes, shapes[0])


def export_image_model(model: nn.Module, path: Path, size: int, output: str, dynamic: bool) -> ModelSpec:
    """Exports a model of one image batch and one output, with a symbolic batch where `dynamic`."""
    example = torch.randn(2 if dynamic else 1, 3, size, size)
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    export(model, (example,), path, ["image"], [output], shapes)
    return check(model, path, image_spec(dynamic))


def export_classifier(name: str, path: Path, *, size: int = 224, dynamic: bool = False) -> ModelSpec:
    return export_image_model(classifier(name, size), path, size, "logits", dynamic)


def export_mobilenet_legacy(path: Path) -> ModelSpec:
    model = classifier("mobilenet_v2", 224)
    axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
    export_legacy(model, (torch.randn(1, 3, 224, 224),), path, ["image"], ["logits"], axes)
    return check(model, path, image_spec(dynamic=True))


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """Ronneberger's U-Net with same-size convolutions: `width` channels at full size, doubled at each halving."""

    def __init__(self, width: int = 16, depth: int = 4, classes: int = 2) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(map(double_convolution, [3, *widths[:-1]], widths))
        self.rise = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[:-1])
        self.up = nn.ModuleList(double_convolution(2 * w, w) for w in widths[:-1])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.down[:-1]:
            skips.append(block(x))
            x = nn.functional.max_pool2d(skips[-1], 2)
        x = self.down[-1](x)
        for rise, block, skip in zip(reversed(self.rise), reversed(self.up), reversed(skips), strict=True):
            x = block(torch.cat([skip, rise(x)], dim=1))
        return self.head(x)


def export_unet(path: Path) -> ModelSpec:
    seed()
    model = calibrate_batch_norm(UNet(), torch.randn(4, 3, 256, 256))
    return export_image_model(model, path, 256, "mask", dynamic=True)


MODELS: dict[str, Builder] = {
    "resnet50": partial(export_classifier, "resnet50", dynamic=True),
    "mobilenet_v3_large": partial(export_classifier, "mobilenet_v3_large"),
    "efficientnet_b0": partial(export_classifier, "efficientnet_b0", dynamic=True),
    "squeezenet1_1": partial(export_classifier, "squeezenet1_1"),
    "vgg16": partial(export_classifier, "vgg16"),
    "inception_v3": partial(export_classifier, "inception_v3", size=299),
    "vit_b_16": partial(export_classifier, "vit_b_16", dynamic=True),
    "unet": export_unet,
    "mobilenet_v2_opset13": export_mobilenet_legacy,
    "resnet18": partial(export_classifier, "resnet18", dynamic=True),
    "mobilenet_v2": partial(export_classifier, "mobilenet_v2", dynamic=True),
    "densenet121": partial(export_classifier, "densenet121", dynamic=True),
    "shufflenet_v2": partial(export_classifier, "shufflenet_v2_x1_0", dynamic=True),
    "convnext_tiny": partial(export_classifier, "convnext_tiny", dynamic=True),
    "swin_t": partial(export_classifier, "swin_t", dynamic=True),
}
