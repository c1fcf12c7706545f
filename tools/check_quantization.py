#!/usr/bin/env python3
"""Random networks through `apus quantize`: what it writes must be what it says, for every engine.

A seed is a network of quantization_nets.py (images or texts) or a graph of graph_generator, and a random choice of
options of one kind: static, dynamic, weights of few bits, or 16 bits. Of each file that is written:

1. onnx.checker accepts it, in full; inputs and outputs keep names and types; constants are not larger than before.
2. Apus, optimized and plain, and onnxruntime run it, and OpenVINO where it is there (tools/python-env peers).
3. Its integers. An integer output is what QuantizeLinear, DynamicQuantizeLinear or a QLinear operator gives. All of
   them become outputs of the model, and those of Apus are taken. Then the model is cut at each: what read it reads an
   input with the integers of Apus instead, so that no difference adds to another. Of the cut model onnxruntime and
   Apus without passes must give the same integers, at most one step apart and 99.5 % equal over all seeds; and an
   evaluation in float64 (exact_integers.py) the same but for ties.
4. Its report. The ratio of signal to noise of each output is computed again in NumPy, from the float model in
   onnxruntime and the quantized one in Apus, to 0.1 dB, and in onnxruntime, to 1 dB. Weights of few bits are decoded
   in NumPy: the report's ratio to 0.01 dB, and none worse than evenly spread steps between least and greatest give.

A model that is refused leaves no file, and says why. Ends with `N passed, N failed, N skipped`.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import exact_integers
from graph_generator import Generator
from quantization_nets import Feeds, network
from random_graphs import SECONDS
from weight_codes import weight_faults

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools/python"))
MEASURED = 8
KINDS = ("static", "dynamic", "weights", "halves")
# What a model may be refused for: there is nothing to quantize, or it has numbers that cannot be.
REFUSALS = ("no node can be", "no product of matrices", "no weight of the model", "no node of the model", "finite")


# ---- What is asked for


def static_words(random: np.random.Generator, source: str, folder: Path) -> list[str]:
    """Options of a static quantization, most of them as they come."""
    chance = lambda p: random.random() < p
    own, words = source != "graphs", []
    if chance(0.6):
        words += ["--range", str(random.choice(["average", "entropy", "percentile", "mse"]))]
        words += ["--percentile", "99.5"] if words[-1] == "percentile" and chance(0.5) else []
    target = str(random.choice(["any"] * 4 + ["avx2", "vnni", "neon", "tensorrt"]))
    if target != "any":
        words += ["--target", target]
    elif chance(0.6):
        words += ["--activations", str(random.choice(["int8", "uint8", "int8", "int16", "uint16"]))]
    wide = words[-1:] in (["int16"], ["uint16"])
    for flag, p in (("--symmetric", 0.25), ("--per-tensor", 0.25), ("--asymmetric-weights", 0.1), ("--equalize", 0.3)):
        words += [flag] if chance(p) else []
    words += ["--correct-bias"] if chance(0.25) else []
    words += ["--smooth", str(random.choice([0.3, 0.5, 0.8]))] if chance(0.2) else []
    if not wide and chance(0.3):
        words += ["--format", "qoperator"]
    elif target == "any" and chance(0.1):
        words += ["--static", "--weights", str(random.choice(["int4", "uint8", "uint4"]))]
    if own and chance(0.15):
        words += ["--exclude", str(random.choice(["*_3", "*_1?", "*_??"]))]
    if own and chance(0.1):
        words += ["--target-sqnr", str(random.choice([10, 25]))]
    if source == "images" and chance(0.15):
        entry = [{"low": -1.5, "high": 1}, {"float": True}, {"type": "int8"}, {"type": "uint8", "symmetric": True}]
        (folder / "overrides.json").write_text(json.dumps({"x": entry[int(random.integers(4))]}))
        words += ["--overrides", str(folder / "overrides.json")]
    return words


def words_of(kind: str, random: np.random.Generator, source: str, folder: Path) -> tuple[list[str], bool]:
    """Options of a kind, and whether they want samples."""
    chance = lambda p: random.random() < p
    if kind == "static":
        return static_words(random, source, folder), True
    if kind == "dynamic":
        words = ["--dynamic"]
        for flag in ("--per-tensor", "--asymmetric-weights"):
            words += [flag] if chance(0.25) else []
        words += ["--weights", str(random.choice(["int8", "uint8"]))] if chance(0.3) else []
        words += ["--smooth", "0.5"] if chance(0.3) else []
        return words, True
    if kind == "halves":
        words = [str(random.choice(["--float16", "--float16", "--bfloat16"]))]
        words += ["--keep-io", "false"] if chance(0.2) else []
        words += ["--no-keep-sensitive"] if chance(0.2) else []
        return words, chance(0.3)
    method = str(random.choice(["rtn", "hqq", "gptq", "awq"]))
    words = ["--weights", str(random.choice(["int8", "int4", "int4", "int2", "uint4", "uint8"])), "--method", method]
    words += ["--weight-format", str(random.choice(["nbits", "nbits", "qdq"]))]
    words += ["--block", str(random.choice(["16", "32", "64", "channel"]))]
    words += ["--minimum-elements", "16"]
    for flag in ("--zero-points", "--no-zero-points", "--no-tables", "--act-order"):
        if chance(0.2) and (flag != "--no-zero-points" or "--zero-points" not in words):
            words += [flag]
    return words, method in ("gptq", "awq") or chance(0.2)


# ---- What runs


def by_apus(content: bytes, feeds: list[Feeds], optimize: bool = True) -> list[list[np.ndarray]]:
    import apus

    session = apus.InferenceSession(content, threads=1, **({} if optimize else {"optimize": False}))
    wanted = {info.name for info in session.get_inputs()}
    return [session.run(None, {name: value for name, value in feed.items() if name in wanted}) for feed in feeds]


def by_onnxruntime(content: bytes, feeds: list[Feeds], optimize: bool = True) -> list[list[np.ndarray]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # Products with dequantized weights shall stay products of floats; by itself it rounds activations to 8 bits.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    # Without VNNI it adds pairs of products of bytes in 16 bits, which overflow, unless it is asked for the sums.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    wanted = {info.name for info in session.get_inputs()}
    return [session.run(None, {name: value for name, value in feed.items() if name in wanted}) for feed in feeds]


def by_onnxruntime_at_last(
    content: bytes, feeds: list[Feeds], optimize: bool, statistics: Counter
) -> list[list[np.ndarray]] | None:
    """With its passes, or without where these make a model that fails while it runs, which is counted.

    Nothing where it would have to go without them and cannot sum.
    """
    if optimize:
        try:
            return by_onnxruntime(content, feeds)
        except Exception as error:
            statistics["refused: onnxruntime's passes: " + str(error)[-80:].replace("\n", " ")] += 1
    return by_onnxruntime(content, feeds, optimize=False) if sums_without_passes() else None


@functools.cache
def sums_without_passes() -> bool:
    """Whether onnxruntime gives the sums of products of bytes without its passes.

    Without VNNI its kernel adds pairs of products in 16 bits, which overflow; a pass prevents that, when asked to.
    """
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1])],
        [helper.make_tensor("w", TensorProto.INT8, [4, 1], [127] * 4)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    found = by_onnxruntime(model.SerializeToString(), [{"x": np.full((1, 4), 255, np.uint8)}], optimize=False)
    return found[0][0].item() == 4 * 255 * 127


def by_openvino(path: Path, feeds: list[Feeds]) -> list[list[np.ndarray]]:
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = []
    for feed in feeds:
        results = compiled({port: feed[next(name for name in port.names if name in feed)] for port in compiled.inputs})
        found.append([np.asarray(results[port]) for port in compiled.outputs])
    return found


def decibels(wanted: list[np.ndarray], found: list[np.ndarray]) -> float | None:
    """The ratio of signal to noise over all samples; None without any signal."""
    signal = sum((np.asarray(x, np.float64) ** 2).sum() for x in wanted)
    noise = sum(((np.asarray(x, np.float64) - np.asarray(y, np.float64)) ** 2).sum() for x, y in zip(wanted, found))
    if noise == 0:
        return np.inf
    return 10 * np.log10(signal / noise) if signal else None


def is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


# ---- Integers


def rounds(node: onnx.NodeProto) -> bool:
    return node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") or node.op_type.startswith(("QLinear", "QGemm"))


def cut_values(model: onnx.ModelProto) -> list[str]:
    """The values of a graph that are rounded to integers, with the scales that a run finds for them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type == "Constant" or node.input and all(not n or n in constants for n in node.input):
            constants |= set(node.output)
        elif rounds(node) and (node.op_type != "QGemm" or len(node.input) > 7):
            found += [name for name in node.output if name]
    return found


def exposed(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """With these values as outputs, behind those that are there."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    there = {info.name for info in made.graph.output}
    made.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in there)
    return made


def cut(model: onnx.ModelProto, values: Feeds) -> onnx.ModelProto:
    """Readers of `values` read inputs of their names with `/given` behind; the values are outputs."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    there = {info.name for info in made.graph.output}

    def rename(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            node.input[:] = [name + "/given" if name in values else name for name in node.input]
            for attribute in node.attribute:
                for inner in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                    rename(inner)

    rename(made.graph)
    for name, value in values.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        made.graph.input.append(helper.make_tensor_value_info(name + "/given", kind, value.shape))
        if name not in there:
            made.graph.output.append(helper.make_tensor_value_info(name, kind, value.shape))
    return made


def integer_faults(
    made: onnx.ModelProto, feed: Feeds, statistics: Counter, asks: bool, compares_floats: bool = False
) -> list[str]:
    """What is wrong with the integers of one run; with `compares_floats` also with what outputs are, given them."""
    names = cut_values(made)
    if not names and not compares_floats:
        return []
    whole = exposed(made, names)
    order = [info.name for info in whole.graph.output]
    known = dict(zip(order, by_apus(whole.SerializeToString(), [feed])[0]))
    values = {name: known[name] for name in names}
    apart = cut(made, values)
    given = feed | {name + "/given": value for name, value in values.items()}
    faults = []
    content = apart.SerializeToString()
    ways = {"apus, plain": lambda: by_apus(content, [given], optimize=False)[0]}
    if asks:
        ways["onnxruntime"] = lambda: by_onnxruntime(content, [given])[0]
        if sums_without_passes():
            ways["onnxruntime, plain"] = lambda: by_onnxruntime(content, [given], optimize=False)[0]
    outputs = [info.name for info in apart.graph.output]
    producers = {name: node for node in made.graph.node for name in node.output}
    lists = {tensor.name for tensor in made.graph.initializer if len(tensor.dims) == 1}
    by_channel = lambda node: node.op_type == "QLinearMatMul" and node.input[5] in lists
    for way, run in ways.items():
        try:
            results = run()
        except Exception as error:  # noqa: BLE001: its own passes cannot take every cut model
            if way != "onnxruntime":
                raise
            statistics["onnxruntime could not optimize the cut model"] += 1
            statistics["refused: onnxruntime: " + str(error)[-110:]] += 1
            continue
        for name, found in zip(outputs, results):
            if name not in values:
                continue
            node = producers[name]
            text = f"{way}: {node.op_type} '{name}'"
            if way == "onnxruntime" and found.ndim != values[name].ndim and found.size == values[name].size:
                # Its passes take a sum with a constant of more axes for a bias, and lose the axes.
                statistics["refused: onnxruntime's passes: another rank"] += 1
            elif way == "onnxruntime" and by_channel(node) and not sums_without_passes():
                # The pass that makes its sums right leaves zero points by channel alone.
                statistics["refused: onnxruntime's sums of 16 bits"] += 1
            elif found.dtype != values[name].dtype or found.shape != values[name].shape:
                mine = f"{values[name].dtype}{list(values[name].shape)}"
                faults.append(f"{text}: {found.dtype}{list(found.shape)}, Apus {mine}")
            elif is_float(found):
                if not np.allclose(found, values[name], rtol=1e-5, atol=0):
                    faults.append(f"{text}: scale {found}, Apus {values[name]}")
            else:
                distance = np.abs(found.astype(np.int64) - values[name].astype(np.int64))
                statistics[f"{way}: integers"] += distance.size
                statistics[f"{way}: others"] += int((distance > 0).sum())
                if distance.max(initial=0) > 1 and found.itemsize == 1:
                    faults.append(f"{text}: {int((distance > 1).sum())} of {distance.size} integers up to "
                                  f"{distance.max()} steps beside those of Apus")
                elif "apus" in way and (distance > 0).sum() > max(3, 0.02 * distance.size) and found.itemsize == 1:
                    faults.append(f"{text}: {int((distance > 0).sum())} of {distance.size} integers differ")
    return faults + exact_faults(made, feed, known, statistics, compares_floats)


def exact_faults(
    made: onnx.ModelProto, feed: Feeds, known: Feeds, statistics: Counter, compares_floats: bool
) -> list[str]:
    evaluation = exact_integers.Evaluation(made, feed, known=known)
    try:
        evaluation.run()
    except Exception as error:  # noqa: BLE001: onnx's evaluator cannot do all that random graphs have
        if not any(node.op_type in ("Loop", "Scan", "If") for node in made.graph.node):
            raise
        statistics["no exact evaluation"] += 1
        return []
    for key in ("values", "ties", "wrong"):
        statistics[f"exact: {key}"] += evaluation.count[key]
    faults = [f"exact: {line}" for line in evaluation.wrong]
    # What is rounded inside of an If may be a step beside.
    tolerance = 0.02 if any(node.op_type == "If" for node in made.graph.node) else 1e-4
    for info in made.graph.output if compares_floats else []:
        found, right = known[info.name], np.asarray(evaluation.values[info.name])
        if found.shape != right.shape:
            faults.append(f"exact: output '{info.name}' is {list(right.shape)}, in Apus {list(found.shape)}")
        elif is_float(found) and found.size:
            apart = np.abs(found - right).max()
            if apart <= tolerance * max(1, np.abs(right).max()):
                continue
            faults.append(f"exact: output '{info.name}' is {apart:.3g} beside, of {np.abs(right).max():.3g}")
    return faults


# ---- One seed


def size_of_constants(model: onnx.ModelProto, with_outputs: bool) -> int:
    """Those that are outputs too stay as they are beside what is made of them."""
    outputs = set() if with_outputs else {info.name for info in model.graph.output}
    four = (TensorProto.UINT4, TensorProto.INT4)
    return sum(
        (int(np.prod(tensor.dims)) + 1) // 2 if tensor.data_type in four else numpy_helper.to_array(tensor).nbytes
        for tensor in model.graph.initializer
        if tensor.name not in outputs
    )


def form_faults(source: onnx.ModelProto, made: onnx.ModelProto, words: list[str]) -> list[str]:
    faults = []
    try:
        onnx.checker.check_model(made, full_check=True)
    except Exception as error:  # noqa: BLE001: of whatever kind
        faults.append(f"onnx.checker: {str(error)[:300]}")
    describe = lambda infos: [(info.name, info.type.tensor_type.elem_type) for info in infos]
    if "--keep-io" in words:
        describe = lambda infos: [info.name for info in infos]
    initializers = {tensor.name for tensor in source.graph.initializer}
    before = [info for info in source.graph.input if info.name not in initializers]
    if describe(before) != describe(made.graph.input):
        faults.append(f"inputs {describe(made.graph.input)} in the place of {describe(before)}")
    if describe(source.graph.output) != describe(made.graph.output):
        faults.append(f"outputs {describe(made.graph.output)} in the place of {describe(source.graph.output)}")
    return faults


def report_faults(
    report: dict, names: list[str], wanted: list[list[np.ndarray]], ways: dict[str, tuple[list, float]]
) -> list[str]:
    faults = []
    # Without any noise it is the text Infinity.
    said = {entry["name"]: entry.get("sqnr") for entry in report.get("outputs", [])}
    said = {name: None if ratio is None else float(ratio) for name, ratio in said.items()}
    for at, name in enumerate(names):
        if wanted[0][at].dtype != np.float32:
            continue
        if name not in said:
            faults.append(f"the report has no output '{name}'")
            continue
        for way, (found, tolerance) in ways.items():
            measured = decibels([r[at] for r in wanted[:MEASURED]], [r[at] for r in found[:MEASURED]])
            claim = said[name]
            if claim is None or measured is None:
                if not (claim is None and (measured is None or measured > 90)):
                    faults.append(f"report: output '{name}' {claim} dB, {way} {measured}")
            elif abs(min(claim, 90) - min(measured, 90)) > tolerance:
                faults.append(f"report: output '{name}' {claim:.2f} dB, measured in {way} {measured:.2f}")
    return faults


def outputs_apart(name: str, names: list[str], wanted: list, first: list, second: list, share: float) -> list[str]:
    """Faults where two engines are further from each other than `share` of how far the first is from the float model
    (as amplitudes), and further than what floats are from each other."""
    faults = []
    for at, output in enumerate(names):
        if not is_float(first[0][at]):
            if first[0][at].dtype != second[0][at].dtype:
                faults.append(f"{name}: output '{output}' is {second[0][at].dtype}")
            continue
        cost = decibels([r[at] for r in wanted], [r[at] for r in first])
        between = decibels([r[at] for r in first], [r[at] for r in second])
        if cost is None or between is None or between > 75:
            continue
        if not between > cost - 20 * np.log10(share):
            faults.append(f"{name}: output '{output}' is {between:.1f} dB from Apus, which is {cost:.1f} from float")
    return faults


def samples_of(seed: int, source: str) -> tuple[onnx.ModelProto, list[Feeds], bool]:
    if source != "graphs":
        return *network(seed, source), False
    generator = Generator(seed)
    model, feeds, _ = generator.build()
    return model, feeds, generator.has_odd_numbers


def store_samples(folder: Path, samples: list[Feeds], own: bool) -> list[str]:
    if own:
        np.savez(folder / "samples.npz", **{n: np.concatenate([s[n] for s in samples]) for n in samples[0]})
        return [str(folder / "samples.npz")]
    for number, sample in enumerate(samples):
        # An axis in front: a file is one sample.
        np.savez(folder / f"sample{number}.npz", **{name: value[None] for name, value in sample.items()})
    return [str(folder / f"sample{number}.npz") for number in range(len(samples))]


def check(seed: int, kind: str, source: str, apus: str, statistics: Counter, keep: Path | None) -> list[str]:
    """What is wrong with one seed; None in the place of it: the model was refused."""
    random = np.random.default_rng([seed, KINDS.index(kind), 7])
    model, samples, odd = samples_of(seed, source)
    own = source != "graphs"
    with tempfile.TemporaryDirectory(prefix="apus-quantization-") as name:
        folder = Path(name) if keep is None else keep
        words, wants = words_of(kind, random, source, folder)
        onnx.save(model, folder / "model.onnx")
        command = [apus, "quantize", str(folder / "model.onnx"), str(folder / "made.onnx"), *words, "--json"]
        if wants:
            command += ["--calibrate", *store_samples(folder, samples, own)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS,
                              env=os.environ | {"SWIFT_BACKTRACE": "enable=no"})
        if keep:
            print(" ".join(command))
        if done.returncode:
            return refusal_faults(done, folder, odd, kind, source, statistics)
        made, report = onnx.load(folder / "made.onnx"), json.loads(done.stdout)
        path = folder / "made.onnx"
        try:
            faults = file_faults(model, made, report, samples, kind, words, wants, odd, statistics, path)
        except Exception as error:  # noqa: BLE001: of whatever kind, it is about this file
            if keep:
                raise
            faults = [f"{type(error).__name__}: {str(error)[:600]}"]
        return [f"{fault}" for fault in faults] and [" ".join(words), *faults]


def refusal_faults(done, folder: Path, odd: bool, kind: str, source: str, statistics: Counter) -> list[str]:
    statistics["refused"] += 1
    last = next((line for line in done.stderr.splitlines() if line.startswith("error: ")), "")
    statistics["refused: " + last[:80]] += 1
    if (folder / "made.onnx").exists():
        return [f"refused, and there is a file: {last}"]
    if done.returncode not in (1, 2) or not last:
        return [f"status {done.returncode}: {done.stderr[-400:]}"]
    # A network of convolutions alone has nothing for products of matrices; else only what was asked too much of is.
    expected = ("--target-sqnr", "not reached", "has a name or operator like")
    if source == "graphs" or source == "images" and kind in ("dynamic", "weights"):
        expected += REFUSALS
    return [] if odd or any(text in last for text in expected) else [f"refused: {last}"]


def file_faults(model, made, report, samples, kind, words, wants, odd, statistics, path) -> list[str]:
    faults = form_faults(model, made, words)
    names = [info.name for info in model.graph.output]
    content = path.read_bytes()
    floats = samples
    if "false" in words:
        # Inputs are of 16 bits then, but those that only nodes of float32 read.
        types = {i.name: helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for i in made.graph.input}
        samples = [{name: x.astype(types[name]) for name, x in sample.items()} for sample in samples]
    found = by_apus(content, samples)
    plain = by_apus(content, samples, optimize=False)
    wanted = by_onnxruntime(model.SerializeToString(), floats, optimize=False) if not odd else found
    # Kernels that onnxruntime has not, by its own list: bfloat16, and integers of 4 bits as activations.
    asks = not odd and "--bfloat16" not in words
    # Graphs that have integers of their own, with powers of two as scales, are full of ties that its passes decide; and
    # of products with 2-bit weights in the standard form its passes (1.31.1) make others that compute something else.
    optimizes = not any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    optimizes = optimizes and not ("int2" in words and "qdq" in words)
    theirs = by_onnxruntime_at_last(content, samples, optimizes, statistics) if asks else None
    sizes = size_of_constants(made, with_outputs=False), size_of_constants(model, with_outputs=True)
    if sizes[0] > sizes[1] + 64 * len(made.graph.node):
        faults.append(f"constants of {sizes[0]} bytes, {sizes[1]} before")
    if odd:
        return faults
    # In 16 bits each engine rounds where it likes.
    share = 6 if kind == "halves" else 0.5
    faults += outputs_apart("apus, plain", names, wanted, found, plain, share)
    if theirs:
        # Its passes round otherwise at ties, and deep networks make more of that.
        faults += outputs_apart("onnxruntime", names, wanted, found, theirs, max(share, 1))
    if kind in ("static", "dynamic"):
        ways = {"Apus": (found, 0.1)} | ({"onnxruntime": (theirs, 1.5)} if theirs else {})
        if wants:
            faults += report_faults(report, names, wanted, ways)
        for sample in samples[:1]:
            faults += integer_faults(made, sample, statistics, asks)
    if kind == "weights":
        faults += weight_faults(model, made, report, samples, words)
    try:
        import openvino  # noqa: F401
    except ImportError:
        return faults
    # What it cannot read: the form of operators on integers, and blocks that the last of an axis does not fill.
    if kind == "halves" or "qoperator" in words or not whole_blocks(made):
        statistics["openvino: not asked"] += 1
        return faults
    if not openvino_runs(model, floats, wanted):
        statistics["openvino: cannot run the float model"] += 1
        return faults
    try:
        others = by_openvino(path, samples)
    except Exception as error:
        statistics["refused: openvino: " + str(error)[-80:].replace("\n", " ")] += 1
        return faults
    apart = outputs_apart("openvino", names, wanted, found, others, 1.5)
    if apart and any(node.op_type == "MatMulInteger" for node in made.graph.node):
        # It takes sums of other ranks behind such a product for its bias, as do onnxruntime's passes.
        statistics["openvino: another rank behind MatMulInteger"] += 1
        return faults
    return faults + apart


def openvino_runs(model: onnx.ModelProto, feeds: list[Feeds], wanted: list[list[np.ndarray]]) -> bool:
    """Whether it computes the float model rightly: of some graphs it gets ranks or broadcasts wrong."""
    with tempfile.TemporaryDirectory() as name:
        onnx.save(model, Path(name) / "model.onnx")
        try:
            found = by_openvino(Path(name) / "model.onnx", feeds)
        except Exception:
            return False
    return all(
        x.shape == y.shape and np.allclose(x, y, rtol=1e-3, atol=1e-3, equal_nan=True)
        for some, others in zip(wanted, found, strict=True)
        for x, y in zip(some, others, strict=True)
        if x.dtype.kind == "f"
    )


def whole_blocks(model: onnx.ModelProto) -> bool:
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    for node in model.graph.node:
        options = {entry.name: entry.i for entry in node.attribute}
        if node.op_type == "DequantizeLinear" and node.input[0] in shapes and options.get("block_size"):
            if shapes[node.input[0]][options.get("axis", 1)] % options["block_size"]:
                return False
    return True


# ---- All seeds


def work(cases: list, apus: str, judge, pipe) -> None:
    for case in cases:
        pipe.send(("start", case, None, None))
        statistics: Counter = Counter()
        try:
            faults = judge(*case, apus, statistics, None)
        except Exception as error:  # noqa: BLE001
            faults = [f"the check itself: {type(error).__name__}: {str(error)[:500]}"]
        pipe.send(("end", case, faults, statistics))
    pipe.send(("done", None, None, None))


def run(cases: list, apus: str, judge=check):
    """Yields (case, faults, statistics). A process that dies or hangs is made anew, and its case has failed."""
    rest = list(cases)
    while rest:
        pipe, child = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=work, args=(rest, apus, judge, child))
        process.start()
        child.close()
        case = rest[0]
        while True:
            try:
                if not pipe.poll(2 * SECONDS):
                    process.kill()
                    yield case, [f"no end after {2 * SECONDS} s"], Counter()
                    break
                state, case_, faults, statistics = pipe.recv()
            except EOFError:
                process.join()
                yield case, [f"the process died: {process.exitcode}"], Counter()
                break
            if state == "done":
                process.join()
                return
            case = case_
            if state == "end":
                rest = rest[1:]
                yield case, faults, statistics
        process.join()
        rest = [other for other in rest if other != case]


def show(statistics: Counter) -> int:
    """Prints what was counted; gives the number of engines that agree too seldom."""
    failed = 0
    for way in ("apus, plain", "onnxruntime", "onnxruntime, plain"):
        count, others = statistics[f"{way}: integers"], statistics[f"{way}: others"]
        if count:
            good = others <= 0.005 * count
            failed += not good
            share = f"{100 - 100 * others / count:.3f} % of {count} integers equal"
            print(f"{way}: {share}" + ("" if good else ": too few"))
    count = statistics["exact: values"]
    if count:
        print(f"exact: {count} integers, {statistics['exact: ties']} ties, {statistics['exact: wrong']} wrong")
    print(f"{statistics['refused']} refused")
    for key, number in sorted(statistics.items()):
        if key.startswith("refused: ") and number:
            print(f"  {number} {key[9:]}")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", default=str(ROOT / ".build/release/apus"), help="the program")
    parser.add_argument("--count", type=int, default=12, help="seeds of each kind and source (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind; may be repeated")
    parser.add_argument("--source", choices=["images", "texts", "graphs"], action="append", help="only this source")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="check the one case in this folder, which stays")
    options = parser.parse_args()
    cases = [
        (seed, kind, source)
        for seed in range(options.seed, options.seed + options.count)
        for kind in options.kind or KINDS
        for source in options.source or ("images", "texts", "graphs")
    ]
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        statistics: Counter = Counter()
        print("\n".join(check(*cases[0], options.apus, statistics, options.keep)))
        return show(statistics)
    passed = failed = 0
    total: Counter = Counter()
    for case, faults, statistics in run(cases, options.apus):
        total += statistics
        passed, failed = passed + (not faults), failed + bool(faults)
        if faults:
            print(f"--seed {case[0]} --kind {case[1]} --source {case[2]}: " + "\n  ".join(faults), flush=True)
    failed += show(total)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
