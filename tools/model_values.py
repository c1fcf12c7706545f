"""Values of models between Python, .npy, .npz and .pb files, and how two of them compare.

In an .npz that `apus run` writes, a tensor output stands under its exact name. A container takes one key a tensor:
`y[0]`, `y[1]` … for the elements of a sequence y, `m.keys` and `m.values` for a map m, so `p[2].keys` for a map in a
sequence; an empty optional has no key. A type that NumPy lacks (bfloat16, float8, int4 …) is stored as a type that
holds the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx_backend_tests import value_to_bytes

SMALL = 1e-3  # relative differences are taken where the reference exceeds this share of the output's largest element


def write_input(folder: Path, index: int, value: Any, info: onnx.ValueInfoProto) -> Path:
    """Stores a value to feed: .npy where NumPy has the type, else a proto."""
    plain = isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.dtype.isbuiltin == 1
    path = folder / f"{index}.{'npy' if plain else 'pb'}"
    if plain:
        np.save(path, value)
    else:
        path.write_bytes(value_to_bytes(value, info))
    return path


def read_value(path: Path, info: onnx.ValueInfoProto) -> Any:
    """A stored .pb as Python has it: array, list, dictionary or None."""
    content = path.read_bytes()
    match info.type.WhichOneof("value"):
        case "sequence_type":
            return from_sequence(onnx.SequenceProto.FromString(content))
        case "optional_type":
            return onnx.numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(content))


def from_sequence(sequence: onnx.SequenceProto) -> list[Any]:
    if sequence.elem_type != onnx.SequenceProto.MAP:
        return onnx.numpy_helper.to_list(sequence)
    rows = []
    for entry in sequence.map_values:
        keys = [key.decode() for key in entry.string_keys] or list(entry.keys)
        values = [onnx.numpy_helper.to_array(tensor)[()] for tensor in entry.values.tensor_values]
        rows.append(dict(zip(keys, values, strict=True)))
    return rows


def flatten(name: str, value: Any) -> dict[str, np.ndarray]:
    """The tensors of a value under the keys that an .npz has for them."""
    if value is None:
        return {}
    if isinstance(value, (list, tuple)):
        return {key: part for i, item in enumerate(value) for key, part in flatten(f"{name}[{i}]", item).items()}
    if isinstance(value, dict):
        values = np.array(list(value.values()))
        if all(type(item) is float for item in value.values()):
            values = values.astype(np.float32)  # what the maps of ONNX hold; Python has but one kind of float
        return {f"{name}.keys": np.array(list(value)), f"{name}.values": values}
    return {name: np.asarray(value)}


def decode(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Numbers of a type that NumPy lacks, as that type, if it holds them."""
    if expected.dtype.isbuiltin == 1 or found.dtype == expected.dtype or found.dtype.kind not in "fiu":
        return found
    narrow = found.astype(expected.dtype)
    return narrow if np.array_equal(narrow.astype(found.dtype), found, equal_nan=True) else found


@dataclass
class Difference:
    """The largest differences between outputs, and whether they are within a tolerance."""

    absolute: float = 0.0
    relative: float = 0.0
    within: bool = True
    reason: str = ""

    def fail(self, reason: str) -> None:
        self.within = False
        self.reason = self.reason or reason


def compare_tensor(
    result: Difference, key: str, found: np.ndarray, expected: np.ndarray, rtol: float, atol: float
) -> None:
    """Adds what one tensor differs by; floats within the tolerance, everything else exactly."""
    found = decode(found, expected)
    if found.shape != expected.shape:
        return result.fail(f"{key}: shape {list(found.shape)}, expected {list(expected.shape)}")
    if expected.dtype.kind in "OUS":
        if found.astype(str).tolist() != expected.astype(str).tolist():
            result.fail(f"{key}: strings differ")
        return None
    if found.dtype != expected.dtype:
        return result.fail(f"{key}: type {found.dtype}, expected {expected.dtype}")
    if expected.dtype.kind in "iub":
        rtol = atol = 0
    one, other = found.astype(np.float64), expected.astype(np.float64)
    if not np.allclose(one, other, rtol, atol, equal_nan=True):
        result.fail(f"{key}: values differ")
    finite = np.isfinite(one) & np.isfinite(other)
    if finite.any():
        gap, size = np.abs(one - other)[finite], np.abs(other)[finite]
        large = size > SMALL * size.max()
        result.absolute = max(result.absolute, float(gap.max()))
        if large.any():
            result.relative = max(result.relative, float((gap[large] / size[large]).max()))
    return None


def compare(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], rtol: float, atol: float
) -> Difference:
    """What the outputs of one run differ by from the reference, key by key."""
    result = Difference()
    for key, value in expected.items():
        if key in found:
            compare_tensor(result, key, found[key], value, rtol, atol)
        else:
            result.fail(f"{key}: missing")
    if extra := sorted(set(found) - set(expected)):
        result.fail(f"{extra[0]}: not expected")
    return result


def same_bits(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype
        and one[key].shape == other[key].shape
        and one[key].tobytes() == other[key].tobytes()
        for key in one
    )
