"""Image classifiers after published designs that torchvision lacks: MLP-Mixer, RepVGG, FastViT."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from model_inputs import ModelSpec
from model_zoo import Builder
from model_zoo.torch_export import calibrate_batch_norm, seed
from model_zoo.vision import export_image_model


def perceptron(width: int, inner: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))


class MixerLayer(nn.Module):
    """Tolstikhin et al. 2021: a perceptron across patches, then one across channels."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.tokens = perceptron(patches, width // 2)
        self.channels = perceptron(width, 4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norms[1](x))


class Mixer(nn.Module):
    """The size of Mixer-S/16."""

    def __init__(self, width: int = 512, depth: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 16, stride=16)
        self.layers = nn.Sequential(*(MixerLayer(196, width) for _ in range(depth)), nn.LayerNorm(width))
        self.head = nn.Linear(width, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.stem(x).flatten(2).transpose(1, 2)).mean(1))


class RepVGG(nn.Module):
    """Ding et al. 2021 as it is deployed: 3×3 convolutions and ReLU, nothing else. The size of A0."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last = 3
        for width, count in ((48, 1), (48, 2), (96, 4), (192, 14), (1280, 1)):
            for index in range(count):
                layers += [nn.Conv2d(last, width, 3, stride=2 if index == 0 else 1, padding=1), nn.ReLU()]
                nn.init.kaiming_normal_(layers[-2].weight)
                last = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(last, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean((2, 3)))


def depthwise(width: int, size: int, outputs: int | None = None, stride: int = 1) -> nn.Sequential:
    outputs = outputs or width
    return nn.Sequential(
        nn.Conv2d(width, outputs, size, stride=stride, padding=size // 2, groups=width, bias=False),
        nn.BatchNorm2d(outputs),
    )


class FastViTBlock(nn.Module):
    """Vasu et al. 2023 as it is deployed: a mixer of positions (convolution or attention), then a convolutional
    perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        if heads:
            self.norm = nn.BatchNorm2d(width)
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width)
        else:
            self.mix = depthwise(width, 3)
        self.local = depthwise(width, 7)
        self.inner = nn.Sequential(nn.Conv2d(width, 3 * width, 1), nn.GELU(), nn.Conv2d(3 * width, width, 1))

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        batch, width, height, columns = x.shape
        q, k, v = (
            part.reshape(batch, height * columns, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm(x).flatten(2).transpose(1, 2)).chunk(3, dim=-1)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, -1, width)
        return x + self.out(y).transpose(1, 2).reshape(batch, width, height, columns)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.attend(x) if self.heads else self.mix(x)
        return x + 0.3 * self.inner(self.local(x))


class FastViT(nn.Module):
    """The size of T8: four stages of 2, 2, 4 and 2 blocks, attention in the last."""

    def __init__(self) -> None:
        super().__init__()
        widths = (48, 96, 192, 384)
        stem = [
            nn.Conv2d(3, 48, 3, stride=2, padding=1),
            nn.GELU(),
            depthwise(48, 3, stride=2),
            nn.GELU(),
            nn.Conv2d(48, 48, 1),
            nn.GELU(),
        ]
        stages: list[nn.Module] = []
        for index, (width, count) in enumerate(zip(widths, (2, 2, 4, 2), strict=True)):
            if index:
                stages += [depthwise(width // 2, 7, width, stride=2), nn.Conv2d(width, width, 1), nn.GELU()]
            stages += [FastViTBlock(width, heads=12 if index == 3 else 0) for _ in range(count)]
        self.layers = nn.Sequential(*stem, *stages)
        self.head = nn.Linear(widths[-1], 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean((2, 3)))


def export_mixer(path: Path) -> ModelSpec:
    seed()
    return export_image_model(Mixer().eval(), path, 224, "logits", dynamic=True)


def export_repvgg(path: Path) -> ModelSpec:
    seed()
    return export_image_model(RepVGG().eval(), path, 224, "logits", dynamic=True)


def export_fastvit(path: Path) -> ModelSpec:
    seed()
    model = calibrate_batch_norm(FastViT(), torch.randn(4, 3, 256, 256))
    return export_image_model(model, path, 256, "logits", dynamic=True)


MODELS: dict[str, Builder] = {"mixer": export_mixer, "repvgg": export_repvgg, "fastvit": export_fastvit}
