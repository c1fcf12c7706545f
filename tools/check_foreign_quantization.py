#!/usr/bin/env python3
"""Models that onnxruntime's own tools quantize, in Apus, against an exact evaluation and onnxruntime.

A seed is a network of quantization_nets.py, the digit classifier of TestModels, or a MODEL (exported by
tools/export_models.py or trained by tools/trained_models.py, with its .inputs.json beside it or inputs that can be
guessed), and a random choice of tool and options: quantize_static in both forms, with every calibration, by channel or
not, with reduced ranges and all types of integers; quantize_dynamic, also inside of If; weights in 4 bits by rounding,
HQQ and GPTQ; with or without preparation.

Every integer that Apus computes must be that of an evaluation in float64 but for ties, and at most one step from that
of onnxruntime, given the same integers before (see check_quantization.py); floats must agree to 10^-4 of the largest.
Ends with `N passed, N failed, N skipped`; what onnxruntime's tools cannot make, or cannot run, is skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from check_quantization import by_apus, by_onnxruntime, integer_faults, run, show, sums_without_passes
from model_inputs import make_feeds, read_spec
from quantization_nets import Feeds, network

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("qdq", "qoperator", "dynamic", "nbits")


class Reader:
    """Samples in the form that onnxruntime asks for."""

    def __init__(self, samples: list[Feeds]) -> None:
        self.samples, self.left = samples, iter(samples)

    def get_next(self) -> Feeds | None:
        return next(self.left, None)

    def rewind(self) -> None:
        self.left = iter(self.samples)

    def __iter__(self):
        return iter(self.samples)


def prepared(path: Path, random: np.random.Generator) -> Path:
    """After shape inference and its passes, at times."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if random.random() < 0.5:
        return path
    target = path.with_name("prepared.onnx")
    quant_pre_process(str(path), str(target), skip_symbolic_shape=True)
    return target


def static(path: Path, target: Path, samples: list[Feeds], random: np.random.Generator, tool: str) -> str:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    chance = lambda p: bool(random.random() < p)
    pick = lambda options: options[int(random.integers(len(options)))]
    kinds = [("QUInt8", "QInt8"), ("QInt8", "QInt8"), ("QUInt8", "QUInt8")]
    if tool == "qdq":
        kinds += [("QUInt8", "QInt8"), ("QInt16", "QInt8"), ("QUInt16", "QUInt8"), ("QUInt16", "QInt16")]
    activation, weight = pick(kinds)
    extra = {"ActivationSymmetric": chance(0.2), "WeightSymmetric": weight == "QInt8" and chance(0.8)}
    if tool == "qdq":
        extra |= {"DedicatedQDQPair": chance(0.2), "AddQDQPairToWeight": chance(0.2), "UseQDQContribOps": chance(0.2)}
        extra |= {"QDQKeepRemovableActivations": chance(0.2), "QDQDisableWeightAdjustForInt32Bias": chance(0.2)}
    options = {
        "per_channel": chance(0.5),
        "reduce_range": chance(0.3) and "16" not in activation + weight,
        "calibrate_method": getattr(CalibrationMethod, pick(["MinMax", "MinMax", "Entropy", "Percentile"])),
        "activation_type": getattr(QuantType, activation),
        "weight_type": getattr(QuantType, weight),
        "quant_format": QuantFormat.QOperator if tool == "qoperator" else QuantFormat.QDQ,
    }
    quantize_static(str(prepared(path, random)), str(target), Reader(samples), extra_options=extra, **options)
    said = [str(getattr(value, "name", value)) for value in options.values()]
    return " ".join(said + [name for name, value in extra.items() if value])


def inside_branches(path: Path, random: np.random.Generator) -> Path:
    """The network as both branches of an If, the second with other weights of its last product; nothing if its names
    would be twice."""
    model = onnx.load(path)
    graph = model.graph
    if random.random() < 0.6 or len({o.name for o in graph.output} & {t.name for t in graph.initializer}):
        return path
    branches = []
    for mark in ("a/", "b/"):
        branch = onnx.GraphProto()
        branch.CopyFrom(graph)
        outer = {info.name for info in graph.input}
        own = lambda name: name if name in outer or not name else mark + name
        for node in branch.node:
            node.name = mark + node.name
            node.input[:], node.output[:] = map(own, node.input), map(own, node.output)
        for entry in (*branch.initializer, *branch.output, *branch.value_info):
            entry.name = own(entry.name)
        del branch.input[:]
        branches.append(branch)
    condition = helper.make_tensor_value_info("condition", TensorProto.BOOL, [])
    node = helper.make_node(
        "If", ["condition"], [o.name for o in graph.output], "choice", then_branch=branches[0], else_branch=branches[1]
    )
    whole = helper.make_graph([node], "choice", [*graph.input, condition], graph.output)
    target = path.with_name("branches.onnx")
    onnx.save(helper.make_model(whole, opset_imports=model.opset_import, ir_version=model.ir_version), target)
    return target


def dynamic(path: Path, target: Path, random: np.random.Generator) -> str:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    chance = lambda p: bool(random.random() < p)
    options = {"per_channel": chance(0.5), "reduce_range": chance(0.3)}
    options["weight_type"] = QuantType.QInt8 if chance(0.6) else QuantType.QUInt8
    source = inside_branches(path, random)
    extra = {"EnableSubgraph": source != path, "MatMulConstBOnly": chance(0.7)}
    if source == path:
        source = prepared(path, random)
    quantize_dynamic(str(source), str(target), extra_options=extra, **options)
    return " ".join([source.stem] + [f"{name}={value}" for name, value in (options | extra).items()])


def few_bits(path: Path, target: Path, samples: list[Feeds], random: np.random.Generator) -> str:
    from onnxruntime.quantization import QuantFormat, matmul_nbits_quantizer as nbits

    block, method = int(random.choice([16, 32, 64])), str(random.choice(["plain", "plain", "hqq", "rtn", "gptq"]))
    form = QuantFormat.QDQ if random.random() < 0.4 and method in ("plain", "hqq") else QuantFormat.QOperator
    symmetric = bool(random.random() < 0.5)
    options: dict = {"quant_format": form}
    if method == "plain":
        bits = int(random.choice([4, 4, 8])) if form == QuantFormat.QOperator else 4
        config = nbits.DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=symmetric, bits=bits, **options)
    elif method == "hqq":
        config = nbits.HQQWeightOnlyQuantConfig(block_size=block, bits=4, **options)
    elif method == "rtn":
        config = nbits.RTNWeightOnlyQuantConfig(**options)
    else:
        config = nbits.GPTQWeightOnlyQuantConfig(calibration_data_reader=Reader(samples), block_size=block, **options)
    quantizer = nbits.MatMulNBitsQuantizer(
        onnx.load(path), block_size=block, is_symmetric=symmetric, algo_config=config, quant_format=form
    )
    quantizer.process()
    onnx.save(quantizer.model.model, target)
    return f"{method} {block} {form.name}{' symmetric' if symmetric else ''}"


def source_of(seed: int, source: str, folder: Path) -> tuple[Path, list[Feeds]]:
    if source in ("images", "texts"):
        model, samples = network(seed, source)
        onnx.save(model, folder / "model.onnx")
        return folder / "model.onnx", samples
    path = ROOT / "TestModels/digits.onnx" if source == "digits" else Path(source)
    spec = read_spec(path)
    # Its tools are led astray by shapes that are declared inside.
    model = onnx.load(path)
    del model.graph.value_info[:]
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx", [make_feeds(path, spec, spec.bench, number) for number in range(4)]


def check(seed: int, tool: str, source: str, _: str, statistics: Counter, keep: Path | None = None) -> list[str]:
    """What is wrong with one seed."""
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    random = np.random.default_rng([seed, TOOLS.index(tool), 11])
    with tempfile.TemporaryDirectory(prefix="apus-foreign-") as name:
        folder = Path(name) if keep is None else keep
        path, samples = source_of(seed, source, folder)
        target = folder / "made.onnx"
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                if tool == "dynamic":
                    words = dynamic(path, target, random)
                elif tool == "nbits":
                    words = few_bits(path, target, samples, random)
                else:
                    words = static(path, target, samples, random, tool)
            content = target.read_bytes()
            feed = dict(samples[0])
            if "branches" in words:
                feed["condition"] = np.array(seed % 2 == 0)
            theirs = by_onnxruntime(content, [feed], optimize=not sums_without_passes())[0]
        except Exception as error:  # noqa: BLE001: of whatever kind, there is nothing to check
            statistics["refused"] += 1
            statistics[f"refused: {tool}: {type(error).__name__}: {str(error)[-100:]}"] += 1
            return []
        try:
            faults = file_faults(onnx.load(target), content, feed, theirs, statistics)
        except Exception as error:  # noqa: BLE001
            if keep:
                raise
            faults = [f"{type(error).__name__}: {str(error)[:500]}"]
        return faults and [words, *faults]


def file_faults(made, content: bytes, feed: Feeds, theirs: list, statistics: Counter) -> list[str]:
    found, plain = by_apus(content, [feed])[0], by_apus(content, [feed], optimize=False)[0]
    faults = integer_faults(made, feed, statistics, asks=True, compares_floats=True)
    for way, other in (("apus, plain", plain), ("onnxruntime", theirs)):
        for at, (a, b) in enumerate(zip(found, other)):
            if a.dtype != b.dtype or a.shape != b.shape:
                faults.append(f"{way}: output {at} is {b.dtype}{list(b.shape)}, Apus {a.dtype}{list(a.shape)}")
                continue
            apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
            # Integers a step beside on the way move results; how many there are, others judge.
            if np.median(apart) > 0.1 * np.abs(a).max(initial=1e-9):
                faults.append(f"{way}: output {at} differs by {apart.max():.4g} of {np.abs(a).max():.4g}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10, help="seeds of each tool and source (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--tool", choices=TOOLS, action="append", help="only this tool; may be repeated")
    parser.add_argument("--source", choices=["images", "texts", "digits", "none"], action="append")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="check the one case in this folder, which stays")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="models to quantize beside the small ones")
    options = parser.parse_args()
    sources = [s for s in options.source or ["images", "texts", "digits"] if s != "none"] + options.models
    seeds = range(options.seed, options.seed + options.count)
    cases = [(seed, tool, source) for seed in seeds for tool in options.tool or TOOLS for source in sources]
    total: Counter = Counter()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        print("\n".join(check(*cases[0], "", total, options.keep)))
        return show(total)
    passed = failed = 0
    for case, faults, statistics in run(cases, "", check):
        total += statistics
        passed, failed = passed + (not faults), failed + bool(faults)
        if faults:
            print(f"--seed {case[0]} --tool {case[1]} --source {case[2]}: " + "\n  ".join(faults), flush=True)
    skipped = total["refused"]
    failed += show(total)
    print(f"{passed - skipped} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
