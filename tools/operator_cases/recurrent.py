"""Recurrent layers: directions, lengths, activations, clipping, layouts."""

from __future__ import annotations

from typing import Any

import numpy as np

from .case import Case, generator
from .windows import moderate

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
ACTIVATIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
NAMES = (
    "Relu",
    "Tanh",
    "Sigmoid",
    "Affine",
    "LeakyRelu",
    "ThresholdedRelu",
    "ScaledTanh",
    "HardSigmoid",
    "Elu",
    "Softsign",
    "Softplus",
)
WITH_ALPHA = {"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"}
WITH_BETA = {"Affine", "ScaledTanh", "HardSigmoid"}


def chosen_activations(case: Case, directions: int) -> dict[str, Any]:
    """Names of activations and, for those that have them, their parameters; often none."""
    if case.chance(0.6):
        return {}
    names = [case.pick(*NAMES) for _ in range(ACTIVATIONS[case.op] * directions)]
    attributes: dict[str, Any] = {"activations": names}
    # What Affine and ScaledTanh have by default is nowhere said.
    if case.chance(0.7) or "Affine" in names or "ScaledTanh" in names:
        alphas = [case.pick(0.1, 0.2, 0.5) for name in names if name in WITH_ALPHA]
        betas = [case.pick(0.1, 0.4, 0.6) for name in names if name in WITH_BETA]
        attributes["activation_alpha"] = alphas or None
        attributes["activation_beta"] = betas or None
    return attributes


def outputs_of(case: Case, elem: int) -> tuple[list, int | None]:
    """The wanted outputs, at least one, and `output_sequence` of the oldest versions."""
    count = 3 if case.op == "LSTM" else 2
    wanted = [elem if case.chance(0.7) else None for _ in range(count)]
    if not any(wanted):
        wanted[case.size(0, count - 1)] = elem
    if case.op == "GRU" and case.version == 1:
        wanted[1] = elem
    sequence = None
    if case.version < 7:
        sequence = 1 if wanted[0] else case.pick(None, 0)
    return wanted, sequence


@generator("RNN", "GRU", "LSTM")
def recurrent(case: Case) -> None:
    elem = case.type("T")
    gates = GATES[case.op]
    steps, batch, width, hidden = case.size(1, 6), case.size(1, 4), case.size(1, 7), case.size(1, 6)
    if case.chance(0.1):
        hidden = case.size(9, 19)
    direction = case.pick(None, "forward", "reverse", "bidirectional")
    if case.op == "GRU" and case.version == 1 and direction is None:
        direction = "forward"  # the default is misspelled there
    directions = 2 if direction == "bidirectional" else 1
    layout = case.pick(None, 0, 1) if case.version >= 14 else None

    attributes = chosen_activations(case, directions)

    def weights(shape: list[int]) -> np.ndarray:
        """Smaller ones for activations that have no bound."""
        drawn = moderate(case, elem, shape)
        return np.asarray(drawn.astype(np.float64) / 3).astype(drawn.dtype) if "activations" in attributes else drawn

    def state() -> np.ndarray | None:
        if case.chance(0.5):
            return None
        return moderate(case, elem, [batch, directions, hidden] if layout else [directions, batch, hidden])

    lengths = None
    if case.chance(0.35):
        lengths = case.rng.integers(0 if case.chance(0.1) else 1, steps + 1, [batch]).astype(np.int32)
        if case.chance(0.5):
            lengths[case.size(0, batch - 1)] = steps
    inputs = [
        case.input(moderate(case, elem, [batch, steps, width] if layout else [steps, batch, width])),
        case.input(weights([directions, gates * hidden, width]), constant=0.7),
        case.input(weights([directions, gates * hidden, hidden]), constant=0.7),
        case.input(moderate(case, elem, [directions, 2 * gates * hidden]) if case.chance(0.6) else None, constant=0.7),
        case.input(lengths),
        case.input(state()),
    ]
    if case.op == "LSTM":
        peepholes = moderate(case, elem, [directions, 3 * hidden]) if case.chance(0.3) else None
        inputs += [case.input(state()), case.input(peepholes, constant=0.7)]
        attributes["input_forget"] = case.pick(None, None, None, 0, 1)
    if case.op == "GRU" and case.version >= 3:
        attributes["linear_before_reset"] = case.pick(None, 0, 1)
    wanted, attributes["output_sequence"] = outputs_of(case, elem)
    case.node(
        inputs,
        outputs=wanted,
        direction=direction,
        layout=layout,
        clip=case.pick(None, None, None, 0.5, 3.0),
        hidden_size=hidden if case.chance(0.8) else None,
        **attributes,
    )
