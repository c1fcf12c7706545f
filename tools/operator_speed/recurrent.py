"""Recurrent layers, loops and scans."""

from __future__ import annotations

from functools import partial

import numpy as np
from onnx import TensorProto, helper

from operator_speed.case import Case, Node, draw, f32, fixed, one, several, weight

CASE = partial(one, family="recurrent", tolerance=1e-3)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
MICROSOFT = "com.microsoft"


def layers() -> list[Case]:
    found = []
    for operator, gates in GATES.items():
        for steps, batch, features, units, ways in [
            (100, 1, 128, 256, 1),
            (100, 8, 128, 256, 1),
            (100, 1, 128, 256, 2),
            (100, 8, 128, 256, 2),
            (30, 1, 32, 64, 1),
            (1, 1, 512, 512, 1),
        ]:
            inputs = [
                f32(steps, batch, features),
                weight(ways, gates * units, features),
                weight(ways, gates * units, units),
                weight(ways, 2 * gates * units),
            ]
            size = f"{'both ways ' if ways == 2 else ''}{steps} steps batch {batch} {features} to {units}"
            attributes = {"hidden_size": units, "direction": "bidirectional" if ways == 2 else "forward"}
            if operator == "GRU":
                attributes["linear_before_reset"] = 1
            found.append(CASE(operator, size, inputs, outputs=2, **attributes))
    inputs = [
        f32(100, 1, 128),
        fixed("s8", 1, 128, 1024, low=-60, high=60),
        fixed("s8", 1, 256, 1024, low=-60, high=60),
        weight(1, 2048),
        None,
        None,
        None,
        None,
        fixed("f32", 1, low=0.001, high=0.002),
        fixed("s8", 1, low=0, high=1),
        fixed("f32", 1, low=0.001, high=0.002),
        fixed("s8", 1, low=0, high=1),
    ]
    found.append(
        one(
            "DynamicQuantizeLSTM",
            "100 steps batch 1 128 to 256",
            inputs,
            family="recurrent",
            type="u8",
            domain=MICROSOFT,
            outputs=2,
            tolerance=2e-2,
            hidden_size=256,
        )
    )
    return found


def control() -> list[Case]:
    tensor = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["on"]),
            helper.make_node("Mul", ["state", "half"], ["scaled"]),
            helper.make_node("Add", ["scaled", "half"], ["next"]),
        ],
        "body",
        [
            tensor("step", TensorProto.INT64, []),
            tensor("going", TensorProto.BOOL, []),
            tensor("state", TensorProto.FLOAT, [1, 256]),
        ],
        [tensor("on", TensorProto.BOOL, []), tensor("next", TensorProto.FLOAT, [1, 256])],
        [helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])],
    )
    scan = helper.make_graph(
        [helper.make_node("Add", ["sum", "row"], ["next"]), helper.make_node("Tanh", ["next"], ["out"])],
        "scan",
        [tensor("sum", TensorProto.FLOAT, [256]), tensor("row", TensorProto.FLOAT, [256])],
        [tensor("next", TensorProto.FLOAT, [256]), tensor("out", TensorProto.FLOAT, [256])],
    )
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["x1"], ["out"])], name, [], [tensor("out", TensorProto.FLOAT, [1, 256])]
        )
        for name, operator in (("then", "Tanh"), ("else", "Relu"))
    }
    case = partial(one, family="control")
    return [
        several(
            "If", "of 256", [draw("bool"), f32(1, 256)], [Node("If", ["x0"], ["y"], branches)], ["y"], family="control"
        ),
        case("Loop", "100 steps of 256", [np.array(100, np.int64), np.array(True), f32(1, 256)], body=body),
        case("Scan", "100 rows of 256", [f32(256), f32(100, 256)], outputs=2, body=scan, num_scan_inputs=1),
    ]


def cases() -> list[Case]:
    return layers() + control()
