#!/usr/bin/env python3
"""Random graphs, optimized and plain, in Apus and in onnxruntime: the three must agree. Ends with `N passed, N failed,
N skipped`.

A seed is one graph of graph_generator.py with several feeds. Graphs run in a child process that is made anew when it
dies, so that a crash or a hang is a failure of its seed. A graph that onnxruntime refuses, or that has NaN or
infinities among its constants, is still compared with itself, plain. Compiled, a graph gives the same bits as
optimized.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from graph_generator import Generator

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "python"))

PASSES = [
    "map-bytes",
    "move-quantized",
    "widen-halves",
    "eliminate-identities",
    "subgraph-constants",
    "fold-constants",
    "eliminate-common-subexpressions",
    "fuse-patterns",
    "eliminate-dead-nodes",
    "fuse-quantized",
    "window-masks",
    "fuse-attention",
    "fuse-matrix-products",
    "channels-last",
    "cancel-transposes",
    "fuse-convolutions",
    "fold-remaining-constants",
]
SECONDS = 60


def difference(found, wanted, scale):
    """None, or where two outputs differ; `scale` is the largest finite number of the graph's outputs."""
    for place, (a, b) in enumerate(zip(found, wanted)):
        a, b = np.asarray(a), np.asarray(b)
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"output {place}: {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
        if a.dtype.kind == "f":
            with np.errstate(all="ignore"):
                same = np.isclose(
                    a.astype(np.float64), b.astype(np.float64), rtol=1e-3, atol=1e-4 * scale, equal_nan=True
                )
        else:
            same = a == b
        if not np.all(same):
            where = tuple(int(i) for i in np.argwhere(~np.atleast_1d(same))[0])
            pair = np.atleast_1d(a)[where], np.atleast_1d(b)[where]
            return f"output {place} at {list(where)}: {pair[0]} and {pair[1]}"
    return None


def largest(results):
    found = [
        np.abs(a[np.isfinite(a)]).max(initial=1) for r in results for a in map(np.asarray, r) if a.dtype.kind == "f"
    ]
    return float(max(found, default=1))


def by_onnxruntime(model, feeds):
    """The results of each feed; None if onnxruntime refuses the model."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return [session.run(None, feed) for feed in feeds]
    except Exception:  # noqa: BLE001: whatever it is, there is nothing to compare with
        return None


def beside(feed):
    """The feed with every float one unit in the last place beside where it was."""
    return {
        name: np.nextafter(value, value.dtype.type(9)) if value.dtype.kind == "f" else value
        for name, value in feed.items()
    }


def hangs_on_last_bits(model, feeds, results):
    """Whether onnxruntime's own results differ as much for inputs that are one unit in the last place beside these: a
    Loop may multiply such a difference by thousands, and then no engine can be held to another."""
    moved = by_onnxruntime(model, [beside(feed) for feed in feeds])
    scale = largest(results)
    return moved is not None and any(difference(a, b, scale) for a, b in zip(moved, results))


def compiled_faults(content, names, feeds, expected):
    """What a compiled model does otherwise than the model that it is made of, which gives `expected`: no bit may."""
    import apus

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "model.apus"
        source.write_bytes(content)
        apus.compile(source, target, threads=1)
        session = apus.InferenceSession(target, threads=1)
        found = [session.run(names, feed) for feed in feeds]
    return [
        f"compiled, feed {feed}: other bits"
        for feed, (a, b) in enumerate(zip(found, expected))
        if any(np.asarray(x).tobytes() != np.asarray(y).tobytes() for x, y in zip(a, b))
    ]


def check(seed, only, asks_onnxruntime):
    """The lines that say what is wrong with the graph of a seed, and whether onnxruntime ran it."""
    import apus

    generator = Generator(seed)
    model, feeds, outputs = generator.build()
    names, content = [v.name for v in outputs], model.SerializeToString()
    ways = {"plain": {"optimize": False}, "optimized": {}}
    if only:
        ways["optimized"]["disabled_passes"] = [name for name in PASSES if name != only]
    else:
        left_out = [name for name in PASSES if np.random.default_rng(seed).random() < 0.4]
        ways["some passes"] = {"disabled_passes": left_out}
    asks = asks_onnxruntime and not generator.has_odd_numbers
    oracle = by_onnxruntime(content, feeds) if asks else None
    results, faults = {}, []
    for way, options in ways.items():
        try:
            session = apus.InferenceSession(content, threads=1, **options)
            results[way] = [session.run(names, feed) for feed in feeds]
            again = [session.run(names, feed) for feed in reversed(feeds)][::-1]
        except apus.Error as error:
            if oracle or way != "plain":
                faults.append(f"{way}: {str(error)[:300]}")
            continue
        for feed, (a, b) in enumerate(zip(results[way], again)):
            if any(np.asarray(x).tobytes() != np.asarray(y).tobytes() for x, y in zip(a, b)):
                faults.append(f"{way}, feed {feed}: other bits in the second run")
    if "optimized" in results and not only:
        try:
            faults += compiled_faults(content, names, feeds, results["optimized"])
        except apus.Error as error:
            faults.append(f"compiled: {str(error)[:300]}")
    wanted = oracle or results.get("plain")
    for way, found in results.items():
        for feed, (a, b) in enumerate(zip(found, wanted or [])):
            if (text := difference(a, b, largest(wanted))) and (way != "plain" or oracle):
                faults.append(f"{way}, feed {feed}: {text}")
                break
    # Differences between the ways of Apus itself are about sums in another order: the same holds for them.
    if faults and oracle and all(": output " in text for text in faults):
        if hangs_on_last_bits(content, feeds, oracle):
            return [], False
    if results.get("plain") is None and not oracle:
        return ([], False) if len(faults) == len(ways) - 1 else (faults, False)
    return faults, oracle is not None


def work(seeds, only, asks_onnxruntime, pipe):
    for seed in seeds:
        pipe.send(("start", seed, None, None))
        try:
            faults, compared = check(seed, only, asks_onnxruntime)
        except Exception as error:  # noqa: BLE001
            faults, compared = [f"the check itself: {type(error).__name__}: {error}"], False
        pipe.send(("end", seed, faults, compared))
    pipe.send(("done", None, None, None))


def run(seeds, only, asks_onnxruntime=True):
    """Yields (seed, faults, compared) of every seed. Where the process dies the seed is tried again without
    onnxruntime: what goes well then was not the fault of Apus."""
    rest = list(seeds)
    while rest:
        pipe, child = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=work, args=(rest, only, asks_onnxruntime, child))
        process.start()
        child.close()
        seed = rest[0]
        while True:
            try:
                if not pipe.poll(SECONDS):
                    process.kill()
                    yield seed, [f"no end after {SECONDS} s"], False
                    break
                kind, number, faults, compared = pipe.recv()
            except EOFError:
                process.join()
                if asks_onnxruntime:
                    yield from run([seed], only, asks_onnxruntime=False)
                else:
                    yield seed, [f"the process died: {process.exitcode}"], False
                break
            if kind == "done":
                process.join()
                return
            seed = number
            if kind == "end":
                rest = rest[1:]
                yield number, faults, compared
        process.join()
        rest = [s for s in rest if s != seed]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--pass", dest="only", choices=PASSES, help="run that pass alone")
    parser.add_argument("--save", help="write the model of the one seed to this file and end")
    options = parser.parse_args()
    if options.save:
        with open(options.save, "wb") as file:
            file.write(Generator(options.seed).build()[0].SerializeToString())
        return 0
    passed = failed = skipped = 0
    for seed, faults, compared in run(range(options.seed, options.seed + options.count), options.only):
        if faults:
            failed += 1
            print(f"seed {seed}: " + "\n  ".join(faults), flush=True)
        else:
            passed += 1
        skipped += not compared and not faults
    if skipped:
        print(f"{skipped} of them compared with themselves, plain, only, or hang on the last bits of their inputs")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
