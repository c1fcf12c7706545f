#!/usr/bin/env python3
"""Trains two small networks on data that every machine has, for tools/quantization_figures.py.

letters: a convolutional network (depthwise convolutions, gates, hard swish, residuals) on capitals and digits drawn in
the DejaVu fonts (Debian's fonts-dejavu), turned, blurred and with noise; the figures are about fonts that it has not
seen. text: a transformer that predicts the next character of the documentation inside Python packages; the figures are
about packages that it has not seen.

Writes FOLDER/letters.onnx and letters.npz, text.onnx and text.npz (calibration and held-out samples); what is there
is kept. Each takes some minutes on one core. Run it with the python that `tools/python-env export` prints.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from model_inputs import InputSpec, ModelSpec

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".cache/trained"

# ---- Letters

FONTS = Path("/usr/share/fonts/truetype/dejavu")
HELD_OUT = {"DejaVuSansMono-BoldOblique", "DejaVuSerifCondensed-Italic", "DejaVuSans-ExtraLight", "DejaVuSerif-Bold"}
HELD_OUT |= {"DejaVuSansCondensed-Oblique"}
CLASSES = "ABCDEFGHIJKLMNPQRSTUVWXYZ123456789"
SIDE = 24


def drawn(random: np.random.Generator, font: Path, letter: str) -> np.ndarray:
    """A letter in [0, 1], float32[SIDE, SIDE]: somewhere, turned, of some size and contrast, with noise and a line."""
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    image = Image.new("L", (48, 48), 0)
    pen = ImageDraw.Draw(image)
    shape = ImageFont.truetype(str(font), int(random.integers(24, 36)))
    pen.text(24 + random.uniform(-5, 5, 2), letter, 255, font=shape, anchor="mm")
    ends = random.uniform(0, 48, 4)
    pen.line(list(ends), fill=int(random.integers(60, 256)), width=2)
    image = image.rotate(random.uniform(-20, 20), Image.BILINEAR)
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.6))).resize((SIDE, SIDE), Image.BOX)
    array = np.asarray(image, np.float32) / 255 * random.uniform(0.4, 1)
    return np.clip(array + random.normal(0, 0.12, array.shape), 0, 1).astype(np.float32)


def letters_of(random: np.random.Generator, fonts: list[Path], count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = random.integers(0, len(CLASSES), count)
    images = [drawn(random, fonts[int(random.integers(len(fonts)))], CLASSES[label]) for label in labels]
    return np.stack(images)[:, None], labels


class Block(nn.Module):
    """An inverted residual as in MobileNetV3: wider, depthwise, gated, narrower."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = inputs * 3
        self.expand = nn.Sequential(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish())
        depthwise = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        self.depthwise = nn.Sequential(depthwise, nn.BatchNorm2d(wide), nn.Hardswish())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 8, 1), nn.ReLU(), nn.Conv2d(8, wide, 1), nn.Hardsigmoid()
        )
        self.project = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.keeps = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depthwise(self.expand(x))
        y = self.project(y * self.gate(y))
        return x + y if self.keeps else y


def letter_network() -> nn.Module:
    first = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
    blocks = [Block(16, 24, 2), Block(24, 24, 1), Block(24, 40, 2), Block(40, 40, 1)]
    last = nn.Sequential(nn.Conv2d(40, 96, 1, bias=False), nn.BatchNorm2d(96), nn.Hardswish())
    return nn.Sequential(first, *blocks, last, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, len(CLASSES)))


def train_letters(folder: Path, seconds: float) -> None:
    fonts = sorted(FONTS.glob("*.ttf"))
    if len(fonts) < 2 * len(HELD_OUT):
        raise SystemExit(f"{FONTS} has {len(fonts)} fonts; install the Debian packages fonts-dejavu and -extra")
    known = [font for font in fonts if font.stem not in HELD_OUT and "Math" not in font.stem]
    unknown = [font for font in fonts if font.stem in HELD_OUT]
    random = np.random.default_rng(0)
    images, labels = letters_of(random, known, 16000)
    tests, truth = letters_of(random, unknown, 4000)
    network = letter_network()
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    fit(network, seconds, 64, len(x), lambda rows: functional.cross_entropy(network(x[rows]), y[rows]))
    np.savez(folder / "letters.npz", samples=images[:200], held_out=tests, labels=truth)
    export(network, x[:2], folder / "letters.onnx", InputSpec("uniform"))


# ---- Text

TRAINED_ON, ABOUT = ("scipy", "sklearn", "pandas"), ("numpy", "networkx")
LENGTH = 64
ALPHABET = "\n !\"'()*+,-./:;<=>?[]_`" + "0123456789" + "abcdefghijklmnopqrstuvwxyz" + "{}~^#|@$%&\\"


def documentation(packages: tuple[str, ...]) -> np.ndarray:
    """The documentation inside packages, one after the other, as positions in ALPHABET."""
    import importlib

    parts = []
    for package in packages:
        for path in sorted(Path(importlib.import_module(package).__file__).parent.rglob("*.py")):
            if "tests" not in path.parts:
                parts += re.findall(r'"""(.*?)"""', path.read_text(errors="ignore"), re.DOTALL)
    text = re.sub(r"\n\s*\n+", "\n", re.sub(r"[ \t]+", " ", "\n".join(parts).lower()))
    table = np.full(128, ALPHABET.index(" "), np.int64)
    for position, character in enumerate(ALPHABET):
        table[ord(character)] = position
    codes = np.frombuffer(text.encode("ascii", "ignore"), np.uint8)
    return table[codes]


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.parts, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        width = x.shape[-1]
        parts = self.parts(self.before(x)).reshape(-1, LENGTH, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(width // self.heads) + mask
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, LENGTH, width)
        x = x + self.joined(y)
        return x + self.narrow(functional.gelu(self.wide(self.between(x))))


class TextNetwork(nn.Module):
    def __init__(self, width: int = 128, heads: int = 4, depth: int = 3) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(len(ALPHABET), width), nn.Parameter(torch.randn(LENGTH, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
        self.last, self.head = nn.LayerNorm(width), nn.Linear(width, len(ALPHABET))
        self.register_buffer("mask", torch.full((LENGTH, LENGTH), -1e4).triu(1))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids) + self.places
        for layer in self.layers:
            x = layer(x, self.mask)
        return self.head(self.last(x))


def train_text(folder: Path, seconds: float) -> None:
    text, other = (torch.from_numpy(documentation(packages)) for packages in (TRAINED_ON, ABOUT))
    rows = lambda source, starts: torch.stack([source[start : start + LENGTH + 1] for start in starts])
    network = TextNetwork()

    def loss(chosen: torch.Tensor) -> torch.Tensor:
        part = rows(text, chosen * LENGTH)
        return functional.cross_entropy(network(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten())

    fit(network, seconds, 16, len(text) // LENGTH - 1, loss)
    random = np.random.default_rng(1)
    samples = rows(text, random.integers(0, len(text) - LENGTH - 1, 64))[:, :-1]
    held_out = rows(other, random.integers(0, len(other) - LENGTH - 1, 600))
    np.savez(folder / "text.npz", samples=samples.numpy(), held_out=held_out.numpy())
    export(network, samples[:2], folder / "text.onnx", InputSpec("integers", 0, len(ALPHABET)))


# ---- Both


def fit(network: nn.Module, seconds: float, batch: int, count: int, loss) -> None:
    """Trains for so long, with AdamW and a rate that goes up, then down to nothing."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    # Of the processor, so that a machine with other work to do gives no worse network.
    began, step, mean = time.process_time(), 0, 0.0
    network.train()
    while (part := (time.process_time() - began) / seconds) < 1:
        rate = 3e-3 * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * part))
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = loss(torch.randint(0, count, (batch,)))
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step, mean = step + 1, 0.98 * mean + 0.02 * float(value.detach())
        if step % 500 == 0:
            print(f"step {step}, {100 * part:.0f} %, loss {mean:.3f}", file=sys.stderr, flush=True)
    network.eval()


def export(network: nn.Module, inputs: torch.Tensor, target: Path, spec: InputSpec) -> None:
    """The network with a symbolic batch, and beside it what its inputs are like."""
    torch.onnx.export(
        network,
        (inputs,),
        str(target),
        input_names=["input"],
        output_names=["scores"],
        dynamic_axes={"input": {0: "n"}, "scores": {0: "n"}},
        opset_version=17,
        dynamo=False,
    )
    ModelSpec({"input": spec}, [{"n": 1}, {"n": 3}], {"n": 1}).write(target)


def made(name: str, folder: Path = FOLDER, seconds: float = 200) -> tuple[Path, dict[str, np.ndarray]]:
    """The model of that name, trained if it is not there, and its samples."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        torch.set_num_threads(1)
        {"letters": train_letters, "text": train_text}[name](folder, seconds)
    with np.load(folder / f"{name}.npz") as archive:
        return path, dict(archive)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=200, help="of training, each (default: %(default)s)")
    parser.add_argument("names", nargs="*", choices=["letters", "text", []], help="default: both")
    options = parser.parse_args()
    for name in options.names or ["letters", "text"]:
        path, samples = made(name, options.folder, options.seconds)
        print(path, {key: value.shape for key, value in samples.items()})


if __name__ == "__main__":
    main()
