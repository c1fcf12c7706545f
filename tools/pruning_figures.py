#!/usr/bin/env python3
"""The figures of docs/compression.md: what pruning and clustering cost the digit classifier, and what structured
pruning saves other models.

Usage: pruning_figures.py [--apus PROGRAM] [--fraction F] [MODEL.onnx…]. Without models: the accuracy of
TestModels/digits.onnx on the 450 held-out images of scikit-learn's digits against the fraction. With models: size,
multiply-adds and time of each before and after structured pruning, and the largest difference between Apus and
onnxruntime on the pruned file. Run it with the python that `tools/python-env export` prints.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


def held_out() -> tuple[np.ndarray, np.ndarray]:
    """The images that the classifier did not see, as tools/test_models/digits.py divides them."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    _, test, _, labels = train_test_split(images, digits, test_size=0.25, random_state=0, stratify=digits)
    return test, labels


def accuracy(apus: Path, model: Path, images: np.ndarray, labels: np.ndarray, folder: Path) -> float:
    np.save(folder / "images.npy", images)
    run(apus, "run", model, "-i", f"input={folder / 'images.npy'}", "-o", folder / "out.npy")
    return float((np.load(folder / "out.npy").argmax(axis=1) == labels).mean())


def digits(apus: Path, folder: Path) -> None:
    images, labels = held_out()
    source, target = ROOT / "TestModels/digits.onnx", folder / "pruned.onnx"
    print(f"| as it is | {100 * accuracy(apus, source, images, labels, folder):.1f} % | | |")
    print(f"gzip: {len(gzip.compress(source.read_bytes()))} bytes of {source.stat().st_size}")
    ways = [["--magnitude", f] for f in (0.3, 0.5, 0.7, 0.8, 0.9)]
    ways += [["--magnitude", f, "--global"] for f in (0.5, 0.7, 0.8, 0.9)]
    ways += [["--pattern", "2:4"], ["--pattern", "1:4"]]
    ways += [["--structured", f] for f in (0.1, 0.2, 0.3, 0.5)] + [["--target-macs", 0.5]]
    for way in ways:
        report = json.loads(run(apus, "prune", source, "-o", target, *way, "--seconds", 0, "--json"))
        after = report["comparison"]["after"]
        right = 100 * accuracy(apus, target, images, labels, folder)
        sizes = f"{after['nonzero_parameters']} | {after['multiply_adds']}"
        print(f"| `{' '.join(map(str, way))}` | {right:.1f} % | {sizes} |", flush=True)
    for size in (2, 4, 8, 16, 32):
        command = [apus, "cluster", source, "-o", target, "--codebook", size, "--seconds", 0, "--json"]
        report = json.loads(run(*command))
        packed = len(gzip.compress(target.read_bytes()))
        run(*command, "--indices")
        print(
            f"| `--codebook {size}` | {100 * accuracy(apus, target, images, labels, folder):.1f} % | "
            f"{report['bytes']} | {report['huffman_bytes']} | {packed} | {target.stat().st_size} |",
            flush=True,
        )


def structured(apus: Path, model: Path, fraction: float, folder: Path) -> None:
    import onnx
    import onnxruntime

    target = folder / "pruned.onnx"
    command = [apus, "prune", model, "-o", target, "--structured", fraction, "--seconds", 5, "--json"]
    report = json.loads(run("chrt", "-r", 2, *command))
    onnx.checker.check_model(str(target))
    random = np.random.default_rng(1)
    feeds: dict[str, np.ndarray] = {}
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    arguments: list[object] = []
    for entry in session.get_inputs():
        shape = [extent if isinstance(extent, int) else 1 for extent in entry.shape]
        feeds[entry.name] = (
            random.standard_normal(shape).astype(np.float32) if "float" in entry.type else np.ones(shape, np.int64)
        )
        np.save(folder / f"{len(arguments)}.npy", feeds[entry.name])
        arguments += ["-i", f"{entry.name}={folder / f'{len(arguments)}.npy'}"]
    run(apus, "run", target, *arguments, "-o", folder / "out.npz")
    outputs = dict(zip([entry.name for entry in session.get_outputs()], session.run(None, feeds)))
    found = np.load(folder / "out.npz")
    difference = max(
        float(np.abs(found[name] - value).max() / max(np.abs(value).max(), 1e-9)) for name, value in outputs.items()
    )
    before, after = report["comparison"]["before"], report["comparison"]["after"]
    kept = sum(entry["channels"] for entry in report["pruning"]["kept"])
    total = sum(group["channels_before"] for group in report["pruning"]["groups"])
    print(
        f"| {model.stem} | {before['parameters']} → {after['parameters']} | {before['multiply_adds']} → "
        f"{after['multiply_adds']} | {before['milliseconds']:.2f} → {after['milliseconds']:.2f} ms | "
        f"{difference:.1e} | {total} free, {kept} kept |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", type=Path, default=ROOT / ".build/release/apus", help="the program")
    parser.add_argument("--fraction", type=float, default=0.3, help="of the channels (default: %(default)s)")
    parser.add_argument("models", type=Path, nargs="*")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if not arguments.models:
            digits(arguments.apus, Path(name))
        for model in arguments.models:
            structured(arguments.apus, model, arguments.fraction, Path(name))


if __name__ == "__main__":
    main()
