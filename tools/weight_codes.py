"""Weights of few bits as a file has them, decoded in NumPy by the definitions of MatMulNBits, GatherBlockQuantized and
DequantizeLinear, and held against the float weights; for tools/check_quantization.py.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def attributes(node: onnx.NodeProto) -> dict:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def unpacked(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """[rows, bytes] as [rows, count] codes, the lowest bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return (packed[..., None] >> shifts & (1 << bits) - 1).reshape(len(packed), -1)[:, :count].astype(np.float64)


def blocks_decoded(codes, scales, zeros, bits: int, block: int, rows: int, depth: int) -> np.ndarray:
    """Packed codes of [rows, depth] without a sign, with scales and packed zero points of blocks."""
    blocks = -(-depth // block)
    codes = unpacked(codes.reshape(rows, -1), bits, blocks * block)
    codes = np.pad(codes, ((0, 0), (0, blocks * block - codes.shape[1]))).reshape(rows, blocks, block)
    if zeros is None:
        zeros = np.full((rows, blocks), 1 << bits - 1, np.float64)
    else:
        zeros = unpacked(zeros.reshape(rows, -1), bits, blocks)
    scales = scales.reshape(rows, blocks).astype(np.float64)
    return ((codes - zeros[..., None]) * scales[..., None]).reshape(rows, -1)[:, :depth]


class WrittenWeights:
    """The weights of a model by the name of the node that reads them, as it would read floats."""

    def __init__(self, made: onnx.ModelProto) -> None:
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
        self.producers = {name: node for node in made.graph.node for name in node.output}
        self.nodes = {node.name: node for node in made.graph.node}

    def inputs(self, node: onnx.NodeProto) -> list[np.ndarray | None]:
        return [self.constants.get(name) for name in node.input]

    def of(self, name: str) -> tuple[np.ndarray, int] | None:
        """The numbers, and the axis along which elements share scales; None if the node is not there, or reads nothing
        that is decoded."""
        node = self.nodes.get(name)
        if node is None:
            return None
        if node.op_type == "MatMulNBits":
            options, (_, codes, scales, zeros) = attributes(node), (self.inputs(node) + [None])[:4]
            sizes = options["N"], options["K"]
            return blocks_decoded(codes, scales, zeros, options.get("bits", 4), options["block_size"], *sizes).T, 0
        if node.op_type == "GatherBlockQuantized":
            options, (codes, _, scales, zeros) = attributes(node), (self.inputs(node) + [None])[:4]
            bits = options.get("bits", 4)
            depth = codes.shape[-1] * 8 // bits
            rows = int(np.prod(codes.shape[:-1]))
            found = blocks_decoded(codes, scales, zeros, bits, options["block_size"], rows, depth)
            return found.reshape(*codes.shape[:-1], depth), codes.ndim - 1
        for operand in node.input:
            producer = self.producers.get(operand)
            turned = producer is not None and producer.op_type == "Transpose"
            if turned:
                producer = self.producers.get(producer.input[0])
            if producer is not None and producer.op_type == "DequantizeLinear" and producer.input[0] in self.constants:
                found, axis = self.dequantized(producer)
                return (found.T, 1 - axis) if turned else (found, axis)
        return None

    def dequantized(self, node: onnx.NodeProto) -> tuple[np.ndarray, int]:
        codes, scales, zeros = (self.inputs(node) + [None])[:3]
        options = attributes(node)
        axis, block = options.get("axis", 1), options.get("block_size", 0)
        codes = codes.astype(np.float64)

        def wide(array: np.ndarray) -> np.ndarray:
            array = array.astype(np.float64)
            if block:
                return np.take(np.repeat(array, block, axis), range(codes.shape[axis]), axis)
            shape = [1] * codes.ndim
            if array.size > 1:
                shape[axis] = array.size
            return array.reshape(shape) if array.size > 1 else array.reshape(())

        numbers = (codes - (0 if zeros is None else wide(zeros))) * wide(scales)
        return numbers, axis if block or codes.ndim != 2 else 1 - axis


def decibels(signal: np.ndarray, noise: np.ndarray) -> float:
    power = (noise.astype(np.float64) ** 2).sum()
    return float("inf") if power == 0 else 10 * np.log10((signal.astype(np.float64) ** 2).sum() / power)


def evenly(rows: np.ndarray, bits: int, block: int, has_zeros: bool) -> np.ndarray:
    """Numbers [rows, depth] by the plain rule: each block from its least to its greatest in even steps."""
    found = np.empty_like(rows, np.float64)
    top = (1 << bits) - 1
    for start in range(0, rows.shape[1], block):
        part = rows[:, start : start + block].astype(np.float64)
        if has_zeros:
            low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
            scale = np.where(high > low, (high - low) / top, 1)[:, None]
            zero = np.rint(-low[:, None] / scale)
        else:
            largest = np.abs(part).max(1)
            scale = np.where(largest > 0, largest / max((1 << bits - 1) - 1, 1), 1)[:, None]
            zero = np.full_like(scale, 1 << bits - 1)
        found[:, start : start + block] = (np.clip(np.rint(part / scale) + zero, 0, top) - zero) * scale
    return found


def weight_faults(
    model: onnx.ModelProto, made: onnx.ModelProto, report: dict, samples: list, words: list[str]
) -> list[str]:
    """Where a report does not say what a file has, or codes are worse than by the plain rule."""
    given = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    written = WrittenWeights(made)
    faults = []
    for entry in report["weights"]:
        source = given.get(entry["weight"])
        found = next((x for x in map(written.of, entry["nodes"]) if x is not None), None)
        # Those of graphs inside of nodes, or that passes have made, have nothing to be held against.
        if source is None:
            continue
        if found is None:
            faults.append(f"no codes for '{entry['weight']}' of {entry['nodes']}")
            continue
        if entry["method"] == "awq":
            continue
        numbers, axis = found
        # Some nodes have their weights the other way round. Of a square matrix the nearer one is meant.
        ways = [source, source.T] if source.ndim == 2 else [source]
        ways = [(decibels(way, way - numbers), way) for way in ways if way.shape == numbers.shape]
        if not ways:
            faults.append(f"'{entry['weight']}' is {numbers.shape}, not {source.shape}")
            continue
        ratio, source = max(ways, key=lambda way: way[0])
        said = float(entry["signal_to_noise"])
        if abs(min(ratio, 150) - min(said, 150)) > 0.01:
            faults.append(f"'{entry['weight']}': the report says {said} dB, its codes {ratio:.2f}")
        # With samples it goes by what the products give, not by the weights.
        if entry["method"] == "rtn" and source.ndim == 2 and entry.get("output_signal_to_noise") is None:
            bits = int("".join(filter(str.isdigit, entry["type"])))
            rows = source if axis == 1 else source.T
            plain = decibels(rows, rows - evenly(rows, bits, entry["block"], entry["has_zero_points"]))
            if ratio < plain - 0.02:
                faults.append(f"'{entry['weight']}': {ratio:.2f} dB, {plain:.2f} by even steps")
    return faults
