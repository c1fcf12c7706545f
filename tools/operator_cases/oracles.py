"""What is known to compute operators: onnx's reference evaluator, onnxruntime without graph passes, and NumPy here."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from . import values as forms
from .case import Case
from .exact import EXACT, may_saturate

os.environ.setdefault("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")
# Element types that have no NumPy type of their own: they go in as constants and come out through Cast.
NARROW = (T.BFLOAT16, *forms.NARROW_FLOATS, *forms.NARROW_INTEGERS)


class Refusal(Exception):
    """The oracle does not compute the case."""


# Operators whose element type is what they are about: the reference evaluator computes them in it.
TYPED = frozenset(
    "Bernoulli BitCast Cast CastLike ConstantOfShape Dropout EyeLike IsInf Multinomial QuantizeLinear RandomNormal"
    " RandomNormalLike RandomUniform RandomUniformLike".split()
)
HALVES = (T.FLOAT16, T.BFLOAT16)


def run_numpy(case: Case) -> list[Any]:
    """What the generator computed, or the exact function of an operator on integers."""
    if case.expected is not None:
        return normalized(case, case.expected)
    function = EXACT.get((case.domain, case.op))
    if function is None:
        raise Refusal("NumPy has no such operator")
    return normalized(case, function(case))


def run_reference(case: Case) -> list[Any]:
    """The reference evaluator; of half precision, and of floats of several types, in double precision and rounded once,
    as it would else round after every step of its expression."""
    if case.domain == "com.microsoft":
        raise Refusal("the reference evaluator has no com.microsoft")
    types = {info.type.tensor_type.elem_type for info in (*case.inputs, *case.outputs)}
    types |= {tensor.data_type for tensor in case.initializers}
    narrow = types & {*HALVES, T.FLOAT}
    if narrow & {*HALVES} or len(types & {*HALVES, T.FLOAT, T.DOUBLE}) > 1:
        try:
            return run_wide(case, tuple(narrow))
        except Refusal:
            pass
    try:
        results = ReferenceEvaluator(case.model()).run(None, dict(case.feeds))
        return normalized(case, results)
    except Exception as error:  # anything may come out of NumPy
        raise Refusal(f"{type(error).__name__}: {error}") from error


def run_converted(case: Case, elem_type: int) -> list[Any]:
    """What the reference evaluator gives when input 0 of the node under test is converted to a type before."""
    if case.under_test is None:
        raise Refusal("no node is under test")
    model, feeds, first = case.model(), dict(case.feeds), case.under_test.input[0]
    for info in model.graph.input:
        if info.name == first:
            info.type.tensor_type.elem_type = elem_type
            feeds[first] = feeds[first].astype(forms.dtype_of(elem_type))
    for tensor in model.graph.initializer:
        if tensor.name == first:
            converted = numpy_helper.to_array(tensor).astype(forms.dtype_of(elem_type))
            tensor.CopyFrom(numpy_helper.from_array(converted, first))
    try:
        return ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:  # anything may come out of NumPy
        raise Refusal(f"{type(error).__name__}: {error}") from error


def run_wide(case: Case, types: tuple[int, ...] = (*HALVES, T.FLOAT)) -> list[Any]:
    """What the reference evaluator gives when tensors of `types` are float64, rounded once, at the end.

    Of integers only input 0 of the node under test is converted: the others may be axes.
    """
    has_graphs = any(attribute.HasField("g") for node in case.nodes for attribute in node.attribute)
    if case.op in TYPED or has_graphs or case.under_test is None:
        raise Refusal("the type of its elements is what the operator is about, or stands in its graphs")
    model, feeds = case.model(), dict(case.feeds)
    outputs = {info.name for info in model.graph.output}
    first = {*case.under_test.input[:1], *outputs}

    def widens(name: str, elem_type: int) -> bool:
        return elem_type in types and (forms.is_float(elem_type) or name in first)

    for info in (*model.graph.input, *model.graph.output):
        if info.type.HasField("tensor_type") and widens(info.name, info.type.tensor_type.elem_type):
            info.type.tensor_type.elem_type = T.DOUBLE
            if info.name in feeds:
                feeds[info.name] = feeds[info.name].astype(np.float64)
    for tensor in model.graph.initializer:
        if widens(tensor.name, tensor.data_type):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    if any(not info.type.HasField("tensor_type") for info in (*case.inputs, *case.outputs)):
        raise Refusal("values that are no tensors stay as they are")
    wanted = [forms.dtype_of(info.type.tensor_type.elem_type) for info in case.outputs]
    try:
        results = ReferenceEvaluator(model).run(None, feeds)
        return [np.asarray(value).astype(dtype) for value, dtype in zip(results, wanted, strict=True)]
    except Exception as error:  # anything may come out of NumPy
        raise Refusal(f"{type(error).__name__}: {error}") from error


def run_coded(case: Case) -> list[Any]:
    """What the reference evaluator gives when the strings of input 0 are numbers from 1 on; 0 comes back as the empty
    string."""
    model, feeds, name = case.model(), dict(case.feeds), case.under_test.input[0]
    words = ["", *case.operand(0).ravel().tolist()]
    feeds[name] = np.arange(1, len(words), dtype=np.int64).reshape(case.operand(0).shape)
    for info in (*model.graph.input, *model.graph.output):
        if info.type.tensor_type.elem_type == T.STRING:
            info.type.tensor_type.elem_type = T.INT64
    try:
        results = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:  # anything may come out of NumPy
        raise Refusal(f"{type(error).__name__}: {error}") from error
    return [np.array([words[code] for code in codes.ravel()], object).reshape(codes.shape) for codes in results]


def run_onnxruntime(case: Case) -> list[Any]:
    """onnxruntime on one thread, where what it says does not depend on the instructions of the processor."""
    if may_saturate(case):
        raise Refusal("pairs of products of bytes may saturate, on some machines")
    return onnxruntime_results(case)


def onnxruntime_results(case: Case) -> list[Any]:
    """What onnxruntime says here, on whatever machine this is."""
    import onnxruntime  # here, so that a process that needs only the reference evaluator does not load it

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model, feeds = case.model(), dict(case.feeds)
    try:
        widen(model, feeds)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results = session.run(None, feeds)
        for index, info in enumerate(case.outputs):
            elem_type = info.type.tensor_type.elem_type
            if elem_type in NARROW and info.type.HasField("tensor_type"):
                results[index] = np.asarray(results[index]).astype(forms.dtype_of(elem_type))
        return normalized(case, results)
    except Exception as error:  # onnxruntime has a class for every status
        raise Refusal(f"{type(error).__name__}: {error}") from error


def widen(model: onnx.ModelProto, feeds: dict[str, Any]) -> None:
    """Makes constants of inputs, and casts outputs, of types that onnxruntime's Python interface does not take."""
    graph = model.graph
    for info in list(graph.input):
        if info.type.HasField("tensor_type") and info.type.tensor_type.elem_type in NARROW:
            graph.initializer.append(numpy_helper.from_array(feeds.pop(info.name), info.name))
            graph.input.remove(info)
    for info in graph.output:
        elem_type = info.type.tensor_type.elem_type
        if info.type.HasField("tensor_type") and elem_type in NARROW:
            wide = T.INT32 if elem_type in forms.NARROW_INTEGERS else T.FLOAT
            graph.node.append(helper.make_node("Cast", [info.name], [info.name + "_wide"], to=wide))
            info.CopyFrom(helper.make_tensor_value_info(info.name + "_wide", wide, None))


def normalized(case: Case, results: list[Any]) -> list[Any]:
    return [forms.normalized(value, info.type) for value, info in zip(results, case.outputs, strict=True)]


def difference(case: Case, found: list[Any], expected: list[Any]) -> str | None:
    """What differs between the outputs of two oracles by the tolerances of the case; None if nothing."""
    for index, (one, other) in enumerate(zip(found, expected, strict=True)):
        rtol, atol = case.tolerance(index)
        if text := forms.difference(one, other, rtol, atol, case.compares_values):
            return f"output {index}: {text}"
    return None


SOURCES = {"numpy": run_numpy, "reference": run_reference, "onnxruntime": run_onnxruntime}


def run_all(case: Case, names: tuple[str, ...] = tuple(SOURCES)) -> tuple[dict[str, list[Any]], list[str]]:
    """The outputs by oracle, and why the others gave none."""
    results, reasons = {}, []
    for name in names:
        try:
            results[name] = SOURCES[name](case)
        except Refusal as reason:
            reasons.append(f"{name}: {reason}")
    return results, reasons
