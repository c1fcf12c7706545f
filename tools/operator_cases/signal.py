"""Fourier transforms, windows, mel weights."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from .case import Case, generator

FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE)


@generator("DFT")
def dft(case: Case) -> None:
    elem, length_type = case.type("T1"), case.type("T2")
    rank = case.rank(2, 4)
    axes = rank - 1
    shape = [case.size(1, 3) for _ in range(axes)]
    axis = case.size(0, axes - 1)
    shape[axis] = case.pick(1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 30, 32)
    parts = case.pick(1, 1, 2)
    onesided, inverse = case.pick(None, 0, 1), case.pick(None, 0, 1)
    if inverse and onesided:
        parts = 2  # half a spectrum to real numbers
    elif onesided:
        parts = 1
    length = None
    if case.chance(0.4):
        length = case.pick(1, 2, 4, 5, 8, 11, shape[axis], shape[axis] + 3)
    elif inverse and onesided and shape[axis] == 1:
        length = 1  # else 0
    attributes = {"onesided": onesided, "inverse": inverse}
    dtype = helper.tensor_dtype_to_np_dtype(length_type)
    inputs = [
        case.input(case.values(elem, [*shape, parts])),
        case.input(np.array(length, dtype) if length is not None else None, constant=0.8),
    ]
    given = axis - rank if case.chance(0.3) else axis
    if case.version >= 20:
        default = axis == rank - 2 and case.chance(0.5)
        inputs.append(case.input(None if default else np.array(given, np.int64), constant=0.8))
    else:
        attributes["axis"] = None if axis == 1 and case.chance(0.5) else given
    case.node(inputs, outputs=[elem], **attributes)


@generator("STFT")
def stft(case: Case) -> None:
    elem, length_type = case.type("T1"), case.type("T2")
    dtype = helper.tensor_dtype_to_np_dtype(length_type)
    frame = case.size(1, 16)
    signal = frame + case.size(0, 20)
    onesided = case.pick(None, 0, 1)
    shape = [case.size(1, 3), signal, case.pick(1, 1, 2) if onesided == 0 else 1]
    kind = case.pick("window", "length", "both")
    window = case.values(elem, [frame], 0.1, 1) if kind != "length" else None
    inputs = [
        case.input(case.values(elem, shape)),
        case.input(np.array(case.size(1, 6), dtype), constant=0.8),
        case.input(window, constant=0.5),
        case.input(np.array(frame, dtype) if kind != "window" else None, constant=0.8),
    ]
    case.node(inputs, outputs=[elem], onesided=onesided)


@generator("HannWindow", "HammingWindow", "BlackmanWindow")
def window_function(case: Case) -> None:
    size_type = case.type("T1")
    out = case.type("T2")
    size, periodic = case.pick(1, 2, 3, 4, 5, 8, 10, 13, 16, 31), case.pick(None, 0, 1)
    if size == 1 and out not in FLOATS:
        periodic = 1  # else 0/0
    dtype = helper.tensor_dtype_to_np_dtype(size_type)
    given = out if out != TensorProto.FLOAT or case.chance() else None
    case.node(
        [case.input(np.array(size, dtype), constant=0.6)], outputs=[out], output_datatype=given, periodic=periodic
    )


@generator("MelWeightMatrix")
def mel_weights(case: Case) -> None:
    size_type, edge_type, out = case.type("T1"), case.type("T2"), case.type("T3")
    sizes, edges = helper.tensor_dtype_to_np_dtype(size_type), helper.tensor_dtype_to_np_dtype(edge_type)
    rate = case.pick(8000, 16000, 22050)
    low = case.pick(0.0, 20.0, 128.0, 251.0)  # none that is a bin exactly
    high = case.pick(rate / 2, 2000.0, 3000.0, 4000.0)
    values = [
        np.array(case.size(1, 12), sizes),
        np.array(case.pick(8, 16, 31, 64, 128), sizes),
        np.array(rate, sizes),
        np.array(low, edges),
        np.array(high, edges),
    ]
    given = out if out != TensorProto.FLOAT or case.chance() else None
    case.node([case.input(value, constant=0.6) for value in values], outputs=[out], output_datatype=given)
