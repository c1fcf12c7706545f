"""Loop step by step, its body run by the reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import GraphProto, helper
from onnx.reference import ReferenceEvaluator

from .case import Case
from .values import dtype_of, elem_type_of


def names_read(graph: GraphProto) -> set[str]:
    """What a graph takes from the graphs around it."""
    own = {value.name for value in (*graph.input, *graph.initializer)}
    own |= {name for node in graph.node for name in node.output}
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                read |= names_read(attribute.g)
    return {name for name in read - own if name}


class LoopBody:
    """The body of a Loop as a model whose captures are inputs."""

    def __init__(self, case: Case, graph: GraphProto) -> None:
        captured = {name: case.values_by_name[name] for name in sorted(names_read(graph))}
        infos = [
            helper.make_tensor_value_info(name, elem_type_of(np.asarray(value)), np.shape(value))
            for name, value in captured.items()
        ]
        whole = helper.make_graph(graph.node, graph.name, [*graph.input, *infos], graph.output, graph.initializer)
        model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", case.opset)])
        self.names = [value.name for value in graph.input]
        self.captured = captured
        self.evaluator = ReferenceEvaluator(model)

    def run(self, iteration: int, going: bool, states: list[Any]) -> list[Any]:
        values = [np.array(iteration, np.int64), np.array(going), *states]
        return self.evaluator.run(None, self.captured | dict(zip(self.names, values, strict=True)))


def loop(case: Case) -> list[Any]:
    """The last states, then what every iteration puts out, stacked along a new first axis."""
    graph = case.attribute("body")
    count = max(len(case.under_test.input) - 2, 0)
    trips, start = case.operand(0), case.operand(1)
    states = [case.operand(2 + index) for index in range(count)]
    body, scans = LoopBody(case, graph), [[] for _ in graph.output[1 + count :]]
    going = start is None or bool(np.asarray(start).reshape(()))
    iteration = 0
    while going and (trips is None or iteration < int(np.asarray(trips).reshape(()))):
        outputs = body.run(iteration, going, states)
        if start is not None:
            going = bool(np.asarray(outputs[0]).reshape(()))
        states = outputs[1 : 1 + count]
        for kept, value in zip(scans, outputs[1 + count :], strict=True):
            kept.append(value)
        iteration += 1
    return states + [stacked(kept, info) for kept, info in zip(scans, graph.output[1 + count :], strict=True)]


def stacked(values: list[np.ndarray], info: Any) -> np.ndarray:
    """The values along a new axis; without any, an empty tensor of the declared shape."""
    if values:
        return np.stack(values)
    tensor = info.type.tensor_type
    return np.zeros([0, *(dim.dim_value for dim in tensor.shape.dim)], dtype_of(tensor.elem_type))
