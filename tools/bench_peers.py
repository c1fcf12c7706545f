#!/usr/bin/env python3
"""Times whole models with Apus and its peers: onnxruntime, and openvino where it is installed, on the same inputs.

Every engine has a process of its own for a model, and they take turns: one runs for a moment while the others sleep,
round after round, so that what else the machine does falls on all alike. Times are lower quartiles, through Python as
a user calls; the peers' workers do not spin. A ratio is the peer's time over that of Apus: above 1 Apus is ahead. Load
is reading the file until the first run can start, memory the peak over the bare process with its libraries loaded; both
are medians over fresh processes, and here too a ratio above 1 is the peer taking more. `apart` is the largest
difference from onnxruntime, relative to the largest element.

Models are of a kind: integer (with quantized operators), 16 bit (float16 or bfloat16 weights), float32 (all others).
Nothing fails on a time. Status 1 if Apus cannot run a model that a peer runs. Run it with the python that
`tools/python-env peers` (with openvino) or `tools/python-env test` prints, after `swift build -c release`.
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

import ratio_picture
from model_inputs import make_feeds, read_spec
from model_values import read_value, write_input
from ratio_picture import Dot, Row, geometric_mean

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools/python"))
KINDS = ("float32", "integer", "16 bit")
WARMING = 0.25  # of the seconds of timed runs
Result = dict[str, float]
Run = Callable[[], list[np.ndarray]]


def peak_rss_mb() -> float:
    """Peak memory of this process. Not getrusage's: that one starts at the size of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def load_apus(model: Path, feeds: dict[str, Any], threads: int) -> Callable[[], Run]:
    import apus
    from apus._library import extension, library

    library()  # importing onnxruntime loads its own
    extension()

    def load() -> Run:
        options = apus.SessionOptions()
        options.intra_op_num_threads = threads
        session = apus.InferenceSession(str(model), options)
        return lambda: session.run(None, feeds)

    return load


def load_onnxruntime(model: Path, feeds: dict[str, Any], threads: int) -> Callable[[], Run]:
    import onnxruntime

    def load() -> Run:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, feeds)

    return load


def load_openvino(model: Path, feeds: dict[str, Any], threads: int) -> Callable[[], Run]:
    import openvino

    core = openvino.Core()
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    settings["ENABLE_CPU_PINNING"] = False  # who runs next may need that core
    if model_kind(model) != "16 bit":
        settings["INFERENCE_PRECISION_HINT"] = "f32"

    def load() -> Run:
        read = core.read_model(model)
        read.reshape({name: list(value.shape) for name, value in feeds.items()})
        request = core.compile_model(read, "CPU", settings).create_infer_request()
        return lambda: list(request.infer(feeds, share_inputs=True).values())

    return load


ENGINES = {"apus": load_apus, "onnxruntime": load_onnxruntime, "openvino": load_openvino}


def model_kind(model: Path) -> str:
    graph = onnx.load(model, load_external_data=False).graph
    operators = {node.op_type for node in graph.node}
    if any(word in name for name in operators for word in ("Quantize", "QLinear", "Integer", "NBits", "QGemm")):
        return "integer"
    halves = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    return "16 bit" if any(tensor.data_type in halves for tensor in graph.initializer) else "float32"


def read_feeds(model: Path, inputs: list[str]) -> dict[str, Any]:
    """The inputs named NAME=FILE. The model is looked at only for protos: reading it would count as memory."""
    files = {name: Path(file) for name, _, file in (item.rpartition("=") for item in inputs)}
    feeds = {name: np.load(file) for name, file in files.items() if file.suffix == ".npy"}
    if protos := files.keys() - feeds.keys():
        infos = {info.name: info for info in onnx.load(model, load_external_data=False).graph.input}
        feeds |= {name: read_value(files[name], infos[name]) for name in protos}
    return feeds


def timed_runs(run: Run, seconds: float) -> list[float]:
    """Milliseconds of each of one run or more."""
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        before = time.perf_counter()
        run()
        times.append((time.perf_counter() - before) * 1e3)
    return times


def work(engine: str, model: Path, inputs: list[str], threads: int, outputs: Path) -> None:
    """A worker process: loads, runs once, stores the outputs, and then runs for as many seconds as each line of its
    standard input says. Answers in lines of JSON; the last one, at the end of input, is its peak of memory."""

    def answer(value: Any) -> None:
        print(json.dumps(value), flush=True)

    load = ENGINES[engine](model, read_feeds(model, inputs), threads)
    bare = peak_rss_mb()
    started = time.perf_counter()
    run = load()
    loaded = time.perf_counter()
    results = run()
    first = time.perf_counter()
    peak = peak_rss_mb() - bare
    arrays = [np.asarray(value) for value in results if isinstance(value, np.ndarray)]
    np.savez(outputs, *[value.astype(np.float32) if value.dtype.kind == "f" else value for value in arrays])
    answer({"load_ms": (loaded - started) * 1e3, "first_run_ms": (first - loaded) * 1e3, "peak_mb": peak})
    for line in sys.stdin:
        answer(timed_runs(run, float(line)))


class Worker:
    """A process of one engine with one model loaded. Raises RuntimeError if it cannot."""

    def __init__(self, engine: str, model: Path, inputs: list[str], threads: int, outputs: Path) -> None:
        command = [sys.executable, __file__, "--worker", engine, "--models", str(model), "--threads", str(threads)]
        command += ["--outputs", str(outputs), *(argument for item in inputs for argument in ("--input", item))]
        self.engine, self.errors = engine, tempfile.TemporaryFile("w+")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True)
        self.outputs = outputs
        self.start: Result = self.answer()

    def answer(self) -> Any:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            lines = self.errors.read().strip().splitlines() or ["no message"]
            raise RuntimeError(f"{self.engine}: {lines[-1][:160]}")
        return json.loads(line)

    def run(self, seconds: float) -> list[float]:
        print(seconds, file=self.process.stdin, flush=True)
        return self.answer()

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def apart(one: Path, other: Path) -> float:
    """The largest difference of outputs, relative to the largest element of each; infinity for other shapes."""
    found = 0.0
    with np.load(one) as first, np.load(other) as second:
        for name in first.files:
            a, b = first[name], second[name] if name in second.files else np.empty(0)
            if a.shape != b.shape or a.dtype.kind not in "fiub":
                return float("inf")
            if a.size:
                a, b = a.astype(np.float64), b.astype(np.float64)
                found = max(found, float(np.abs(a - b).max() / (np.abs(b).max() or 1)))
    return found


def measure_once(
    model: Path, engines: list[str], inputs: list[str], folder: Path, options: argparse.Namespace
) -> tuple[dict[str, Result], dict[str, list[float]]]:
    """One fresh process for each engine that can run the model, then turns of all: their starts and times."""
    workers = []
    for engine in engines:
        try:
            workers.append(Worker(engine, model, inputs, options.threads, folder / f"{engine}.npz"))
        except RuntimeError as error:
            print(f"  {model.stem}: {error}", file=sys.stderr)
    times: dict[str, list[float]] = {worker.engine: [] for worker in workers}
    try:
        for worker in workers:
            worker.run(options.seconds * WARMING)
        for turn in range(options.turns):
            for index in range(len(workers)):
                worker = workers[(turn + index) % len(workers)]
                times[worker.engine] += worker.run(options.seconds / options.turns / options.rounds)
    finally:
        for worker in workers:
            worker.end()
    return {worker.engine: worker.start for worker in workers}, times


def measure_model(model: Path, engines: list[str], batch: int | None, options: argparse.Namespace) -> dict[str, Result]:
    """Figures of each engine that can run the model."""
    spec = read_spec(model)
    binding = spec.bench if batch is None else spec.bench | {"batch": batch}
    infos = {info.name: info for info in onnx.load(model, load_external_data=False).graph.input}
    starts: dict[str, list[Result]] = {}
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="apus-bench-") as name:
        folder = Path(name)
        feeds = make_feeds(model, spec, binding)
        inputs = [
            f"{key}={write_input(folder, index, value, infos[key])}" for index, (key, value) in enumerate(feeds.items())
        ]
        for _ in range(options.rounds):
            started, taken = measure_once(model, engines, inputs, folder, options)
            for engine in started:
                starts.setdefault(engine, []).append(started[engine])
                times.setdefault(engine, []).extend(taken[engine])
        outputs = {engine: folder / f"{engine}.npz" for engine in starts}
        results = {
            engine: {figure: statistics.median(start[figure] for start in found) for figure in found[0]}
            | {"ms": float(np.percentile(times[engine], 25)), "runs": len(times[engine])}
            for engine, found in starts.items()
        }
        if {"apus", "onnxruntime"} <= outputs.keys():
            results["apus"]["apart"] = apart(outputs["apus"], outputs["onnxruntime"])
    return results


def ratio(results: dict[str, Result], peer: str, figure: str) -> float | None:
    """A figure of a peer over that of Apus, if there are both."""
    both = "apus" in results and peer in results
    return results[peer][figure] / results["apus"][figure] if both and results["apus"][figure] > 0 else None


def fastest(results: dict[str, Result]) -> str | None:
    peers = [engine for engine in results if engine != "apus"]
    return min(peers, key=lambda peer: results[peer]["ms"]) if peers else None


def header(engines: list[str]) -> str:
    peers = "".join(f" {peer + ': time, load, memory':>29}" for peer in engines[1:])
    return f"{'model':28} {'kind':8}" + "".join(f" {engine + ' ms':>14}" for engine in engines) + peers + "   apart"


def table_line(name: str, kind: str, results: dict[str, Result], engines: list[str]) -> str:
    """Milliseconds of every engine, then each peer over Apus in time, load and memory."""
    cells = [f"{name:28} {kind:8}"]
    cells += [f"{results[engine]['ms']:14.4f}" if engine in results else f"{'–':>14}" for engine in engines]
    for peer in engines[1:]:
        for figure in ("ms", "load_ms", "peak_mb"):
            found = ratio(results, peer, figure)
            cells.append(f"{found:9.2f}" if found else f"{'–':>9}")
    cells.append(f"{results['apus']['apart']:7.0e}" if "apart" in results.get("apus", {}) else f"{'–':>7}")
    return " ".join(cells)


def means(figures: dict[str, dict[str, Any]], engines: list[str]) -> dict[str, dict[str, float]]:
    """Geometric means of the ratios of times, by kind and in all, against each peer and against the faster one."""
    found: dict[str, dict[str, float]] = {}
    for kind in (*KINDS, "all"):
        members = [entry["engines"] for entry in figures.values() if kind in (entry["kind"], "all")]
        against: dict[str, float] = {}
        for peer in engines[1:]:
            ratios = [value for results in members if (value := ratio(results, peer, "ms"))]
            if ratios:
                against[peer] = geometric_mean(ratios)
        ratios = [
            value
            for results in members
            if (peer := fastest(results)) and (value := ratio(results, peer, "ms"))
        ]  # fmt: skip
        if ratios:
            found[kind] = against | {"the faster": geometric_mean(ratios), "models": len(ratios)}
    return found


def picture(figures: dict[str, dict[str, Any]], engines: list[str], threads: int) -> str:
    rows = []
    for kind in KINDS:
        members = {name: entry["engines"] for name, entry in figures.items() if entry["kind"] == kind}
        rows += [Row(kind)] if members else []
        for name, results in members.items():
            dots = [
                Dot(value, index, f"{name}, {peer}: {value:.2f}")
                for index, peer in enumerate(engines[1:])
                if (value := ratio(results, peer, "ms"))
            ]
            peer = fastest(results)
            rows.append(Row(name, dots, ratio(results, peer, "ms") if peer else None))
    title = f"Time of the peer / time of Apus, {threads} thread{'s' * (threads > 1)}; the bar is the faster peer"
    return ratio_picture.picture(title, engines[1:], rows, step=20, spread=0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    places = [ROOT / ".cache/models", ROOT / ".cache/models/narrow"]
    parser.add_argument(
        "--models",
        type=Path,
        nargs="+",
        default=[place for place in places if place.is_dir()],
        metavar="PLACE",
        help="model files or folders of them (default: .cache/models, .cache/models/narrow)",
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="only models of these")
    parser.add_argument("--batch", type=int, metavar="N", help="another batch than the models' own, where it is free")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="of fresh processes (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=8, help="of each process in a round (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2, help="of timed runs of an engine (default: %(default)s)")
    parser.add_argument("--peers", default="onnxruntime,openvino", help="comma-separated (default: those installed)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="also draw them here")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--input", action="append", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--outputs", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def has_batch(model: Path) -> bool:
    return "batch" in read_spec(model).bench


def main() -> int:
    options = parse_arguments()
    if options.worker:
        work(options.worker, options.models[0], options.input, options.threads, options.outputs)
        return 0
    models = [
        path for place in options.models for path in (sorted(place.glob("*.onnx")) if place.is_dir() else [place])
    ]
    engines = ["apus", *(peer for peer in options.peers.split(",") if importlib.util.find_spec(peer))]
    print(header(engines))
    figures: dict[str, dict[str, Any]] = {}
    for model in models:
        kind = model_kind(model)
        if kind not in options.kinds or (options.batch is not None and not has_batch(model)):
            continue
        name = model.stem if options.batch is None else f"{model.stem} x{options.batch}"
        figures[name] = {"kind": kind, "engines": measure_model(model, engines, options.batch, options)}
        print(table_line(name, kind, figures[name]["engines"], engines), flush=True)
    summary = means(figures, engines)
    for kind, against in summary.items():
        texts = [f"{peer} {value:.3f}" for peer, value in against.items() if peer != "models"]
        print(f"geometric mean, {kind} ({against['models']} models): {', '.join(texts)}")
    if options.json:
        content = {"threads": options.threads, "means": summary, "models": figures}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if options.picture:
        options.picture.write_text(picture(figures, engines, options.threads))
    return int(any(entry["engines"] and "apus" not in entry["engines"] for entry in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
