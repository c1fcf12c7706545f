#!/usr/bin/env python3
"""Times apus against onnxruntime, and openvino where it is installed, on the same inputs.

Every engine runs in a fresh process, one after the other, round after round, so that what else the machine does falls
on all alike. A figure is the median of the rounds. A ratio is apus over peer: below 1 is better. Load is reading the
file until the first run can start; memory is the peak over the bare process with its libraries loaded. Nothing fails on
a time. Run it with the python that `tools/python-env peers` (with openvino) or `tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from model_inputs import make_feeds, read_spec
from model_values import read_value, write_input

ROOT = Path(__file__).resolve().parent.parent
IDENTITY = '<ir_version: 8, opset_import: ["": 17]> identity (float[1] x) => (float[1] y) { y = Identity (x) }'
FIGURES = ("median_ms", "load_ms", "peak_mb")
Result = dict[str, float]
Run = Callable[[], Any]


def peak_rss_mb() -> float:
    """Peak memory of this process. Not getrusage's: that one starts at the size of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def load_onnxruntime(model: Path, feeds: dict[str, Any], threads: int) -> Callable[[], Run]:
    import onnxruntime

    def load() -> Run:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, feeds)

    return load


def load_openvino(model: Path, feeds: dict[str, Any], threads: int) -> Callable[[], Run]:
    import openvino

    core = openvino.Core()

    def load() -> Run:
        read = core.read_model(model)
        read.reshape({name: list(value.shape) for name, value in feeds.items()})
        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        request = core.compile_model(read, "CPU", settings).create_infer_request()
        return lambda: request.infer(feeds, share_inputs=True)

    return load


PEERS = {"onnxruntime": load_onnxruntime, "openvino": load_openvino}


def read_feeds(model: Path, inputs: list[str]) -> dict[str, Any]:
    """The inputs named NAME=FILE. The model is looked at only for protos: reading it would count as memory."""
    files = {name: Path(file) for name, _, file in (item.rpartition("=") for item in inputs)}
    feeds = {name: np.load(file) for name, file in files.items() if file.suffix == ".npy"}
    if protos := files.keys() - feeds.keys():
        infos = {info.name: info for info in onnx.load(model, load_external_data=False).graph.input}
        feeds |= {name: read_value(files[name], infos[name]) for name in protos}
    return feeds


def work(engine: str, model: Path, inputs: list[str], threads: int, seconds: float) -> Result:
    """What a worker process does: loads, warms up, runs for a while."""
    load = PEERS[engine](model, read_feeds(model, inputs), threads)
    bare = peak_rss_mb()
    started = time.perf_counter()
    run = load()
    loaded = time.perf_counter()
    run()
    first = time.perf_counter()
    warm = first + seconds / 4
    while time.perf_counter() < warm:
        run()
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1e3)
    return {
        "median_ms": statistics.median(times),
        "load_ms": (loaded - started) * 1e3,
        "first_run_ms": (first - loaded) * 1e3,
        "peak_mb": peak_rss_mb() - bare,
    }


def bare_apus(apus: Path) -> float:
    """Peak memory of apus in MB with a model of one node: the program itself."""
    with tempfile.TemporaryDirectory(prefix="apus-bench-") as folder:
        path = Path(folder, "identity.onnx")
        onnx.save(onnx.parser.parse_model(IDENTITY), path)
        command = [str(apus), "bench", str(path), "--json", "--runs", "1"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["peak_rss_mb"]


def measure(
    engine: str, apus: Path, bare: float, model: Path, inputs: list[str], options: argparse.Namespace
) -> Result:
    """One fresh process of one engine."""
    shared = [arg for item in inputs for arg in ("--input", item)]
    shared += ["--threads", str(options.threads), "--seconds", str(options.seconds)]
    if engine == "apus":
        command = [str(apus), "bench", str(model), "--json", *shared]
    else:
        command = [sys.executable, __file__, "--worker", engine, "--models", str(model), *shared]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode != 0:
        lines = (finished.stderr or finished.stdout).strip().splitlines() or ["no message"]
        raise RuntimeError(f"{engine}: {lines[-1][:120]}")
    result = json.loads(finished.stdout)
    if engine == "apus":
        result["peak_mb"] = result["peak_rss_mb"] - bare
    return result


def measure_model(model: Path, engines: list[str], bare: float, options: argparse.Namespace) -> dict[str, Result]:
    """Medians over the rounds, for each engine that can run the model."""
    spec = read_spec(model)
    infos = {info.name: info for info in onnx.load(model, load_external_data=False).graph.input}
    rounds: dict[str, list[Result]] = {engine: [] for engine in engines}
    with tempfile.TemporaryDirectory(prefix="apus-bench-") as name:
        feeds = make_feeds(model, spec, spec.bench)
        inputs = [
            f"{key}={write_input(Path(name), index, value, infos[key])}"
            for index, (key, value) in enumerate(feeds.items())
        ]
        for _ in range(options.rounds):
            for engine in [engine for engine in engines if engine in rounds]:
                try:
                    rounds[engine].append(measure(engine, options.apus, bare, model, inputs, options))
                except RuntimeError as error:
                    print(f"  {model.stem}: {error}", file=sys.stderr)
                    del rounds[engine]
    return {
        engine: {figure: statistics.median(result[figure] for result in results) for figure in FIGURES}
        for engine, results in rounds.items()
    }


def table_line(model: str, results: dict[str, Result], engines: list[str]) -> str:
    """Milliseconds of every engine, then apus over each peer in time, load and memory."""
    cells = [f"{model:22}"]
    cells += [f"{results[engine]['median_ms']:12.4f}" if engine in results else f"{'–':>12}" for engine in engines]
    for peer in engines[1:]:
        for figure in FIGURES:
            both = "apus" in results and peer in results and results[peer][figure] > 0
            cells.append(f"{results['apus'][figure] / results[peer][figure]:7.2f}" if both else f"{'–':>7}")
    return " ".join(cells)


def header(engines: list[str]) -> str:
    peers = "".join(f" {peer + ': time, load, memory':>23}" for peer in engines[1:])
    return f"{'model':22}" + "".join(f" {engine + ' ms':>12.12}" for engine in engines) + peers


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--apus", type=Path, default=ROOT / ".build/release/apus", help="the program (default: %(default)s)"
    )
    parser.add_argument(
        "--models",
        type=Path,
        nargs="+",
        default=[ROOT / ".cache/models"],
        metavar="PLACE",
        help="model files or folders of them (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of timed runs in a process (default: %(default)s)")
    parser.add_argument("--peers", default="onnxruntime,openvino", help="comma-separated (default: those installed)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--input", action="append", default=[], help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    if options.worker:
        print(json.dumps(work(options.worker, options.models[0], options.input, options.threads, options.seconds)))
        return 0
    models = [
        path for place in options.models for path in (sorted(place.glob("*.onnx")) if place.is_dir() else [place])
    ]
    engines = ["apus", *(peer for peer in options.peers.split(",") if importlib.util.find_spec(peer))]
    bare = bare_apus(options.apus)
    print(header(engines))
    figures = {}
    for model in models:
        figures[model.stem] = measure_model(model, engines, bare, options)
        print(table_line(model.stem, figures[model.stem], engines), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"threads": options.threads, "models": figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
