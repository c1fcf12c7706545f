#!/usr/bin/env python3
"""How fast the files are that `apus quantize` makes, beside the models that they are made of.

Each model is quantized statically, dynamically, to weights of 4 bits and to float16, whatever it can be, calibrated
with random inputs: this is about time, and the outputs are not looked at. Every form has a process of Apus and one of
onnxruntime, and all take turns, as in bench_peers.py; times are lower quartiles in milliseconds. Run it with the
python that `tools/python-env peers` prints, after `swift build -c release`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from bench_peers import ROOT, Worker
from model_inputs import make_feeds, read_spec
from model_values import write_input

FORMS = {
    "int8": ["--calibrate"],
    "dynamic": ["--dynamic"],
    "int4": ["--weights", "int4"],
    "float16": ["--float16"],
}
ENGINES = ("apus", "onnxruntime")
SAMPLES = 4
Figures = dict[str, dict[str, float]]


def forms(apus: Path, model: Path, feeds: list[dict[str, np.ndarray]], folder: Path) -> dict[str, Path]:
    """The model, and the files that can be made of it, by form."""
    archive = folder / "samples.npz"
    np.savez(archive, **{name: np.concatenate([sample[name] for sample in feeds]) for name in feeds[0]})
    made = {"float32": model}
    for form, options in FORMS.items():
        target = folder / f"{form}.onnx"
        data = [str(archive), "--measure", "0"] if options == ["--calibrate"] else []
        words = [str(apus), "quantize", str(model), str(target), *options, *data]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode == 0:
            made[form] = target
        else:
            print(f"{model.stem}: no {form}: {done.stderr.strip()[:160]}", file=sys.stderr)
    return made


def measure(model: Path, options: argparse.Namespace) -> Figures:
    """Milliseconds by form and engine."""
    with tempfile.TemporaryDirectory(prefix="apus-quantized-") as name:
        folder = Path(name)
        spec = read_spec(model)
        feeds = [make_feeds(model, spec, spec.bench, seed=seed) for seed in range(SAMPLES)]
        infos = {info.name: info for info in onnx.load(model, load_external_data=False).graph.input}
        inputs = [
            f"{key}={write_input(folder, index, value, infos[key])}"
            for index, (key, value) in enumerate(feeds[0].items())
        ]
        workers: dict[tuple[str, str], Worker] = {}
        for form, file in forms(options.apus, model, feeds, folder).items():
            for engine in ENGINES:
                try:
                    workers[form, engine] = Worker(engine, file, inputs, options.threads, folder / "outputs.npz")
                except RuntimeError as error:
                    print(f"{model.stem}, {form}: {error}", file=sys.stderr)
        times: dict[tuple[str, str], list[float]] = {key: [] for key in workers}
        for _ in range(options.turns):
            for key, worker in workers.items():
                times[key] += worker.run(options.seconds / options.turns)
        for worker in workers.values():
            worker.end()
    figures: Figures = {}
    for (form, engine), taken in times.items():
        figures.setdefault(form, {})[engine] = float(np.percentile(taken, 25))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="model files")
    parser.add_argument("--apus", type=Path, default=ROOT / ".build/release/apus")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2, help="of timed runs of each form and engine")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    print(f"{'model':20} {'form':8} {'apus ms':>10} {'onnxruntime ms':>15} {'ratio':>6} {'float32 / this':>15}")
    found: dict[str, Figures] = {}
    for model in options.models:
        found[model.stem] = figures = measure(model, options)
        for form, times in figures.items():
            own, peer = (times.get(engine, float("nan")) for engine in ENGINES)
            gain = figures["float32"]["apus"] / own
            print(f"{model.stem:20} {form:8} {own:10.3f} {peer:15.3f} {peer / own:6.2f} {gain:15.2f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"threads": options.threads, "models": found}, indent=1))


if __name__ == "__main__":
    main()
