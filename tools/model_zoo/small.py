"""Small torch models: recurrent, tiny, and with loops whose length depends on data."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.export import Dim

from model_inputs import InputSpec, ModelSpec
from model_zoo import Builder
from model_zoo.torch_export import check, export, export_legacy, seed


class Recurrent(nn.Module):
    """A bidirectional two-layer LSTM over 128 features, 256 units each way."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(128, 256, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x):
        y, (hidden, cell) = self.lstm(x)
        return y, hidden, cell


def export_lstm(path: Path) -> ModelSpec:
    seed()
    model = Recurrent().eval()
    axes = ({0: Dim("batch"), 1: Dim("steps")},)
    export(model, (torch.randn(2, 10, 128),), path, ["x"], ["y", "hidden", "cell"], axes)
    spec = ModelSpec(
        {"x": InputSpec("normal")},
        [{"batch": 1, "steps": 100}, {"batch": 3, "steps": 7}, {"batch": 2, "steps": 1}],
        {"batch": 1, "steps": 100},
    )
    return check(model, path, spec)


class GatedRecurrent(nn.Module):
    """A bidirectional two-layer GRU over 128 features, 256 units each way."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(128, 256, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x):
        return self.gru(x)


def export_gru(path: Path) -> ModelSpec:
    seed()
    model = GatedRecurrent().eval()
    axes = {"x": {0: "batch", 1: "steps"}, "y": {0: "batch", 1: "steps"}, "hidden": {1: "batch"}}
    export_legacy(model, (torch.randn(2, 10, 128),), path, ["x"], ["y", "hidden"], axes, opset=18)
    spec = ModelSpec(
        {"x": InputSpec("normal")},
        [{"batch": 2, "steps": 100}, {"batch": 2, "steps": 7}, {"batch": 2, "steps": 1}],
        {"batch": 2, "steps": 100},
    )
    return check(model, path, spec)


def export_mlp_tiny(path: Path) -> ModelSpec:
    """Sixteen times a linear layer of 32×32 and a ReLU: what the engine itself costs."""
    seed()
    layers: list[nn.Module] = []
    for _ in range(16):
        linear = nn.Linear(32, 32)
        nn.init.kaiming_normal_(linear.weight)
        layers += [linear, nn.ReLU()]
    model = nn.Sequential(*layers).eval()
    export(model, (torch.randn(1, 32),), path, ["x"], ["y"])
    return check(model, path, ModelSpec({"x": InputSpec("normal")}))


class GreedyDecoder(nn.Module):
    """A recurrent cell that writes tokens until the end token (0) or `limit` of them: a scripted while loop."""

    def __init__(self, vocabulary: int = 50, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.enter = nn.Linear(width, width)
        self.recur = nn.Linear(width, width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, state: torch.Tensor, limit: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        token = torch.ones([1], dtype=torch.int64)
        tokens = torch.zeros([1, 0], dtype=torch.int64)
        count = torch.zeros([], dtype=torch.int64)
        going = torch.ones([], dtype=torch.bool)
        while bool(going):
            state = torch.tanh(self.enter(self.embedding(token)) + self.recur(state))
            token = self.head(state).argmax(dim=1)
            tokens = torch.cat([tokens, token.unsqueeze(0)], dim=1)
            count = count + 1
            going = (token[0] != 0) & (count < limit)
        return tokens, state


def export_greedy_decoder(path: Path) -> ModelSpec:
    seed(3)
    model = GreedyDecoder().eval()
    for layer in (model.embedding, model.head, model.enter, model.recur):
        nn.init.normal_(layer.weight, std=0.4)
    scripted = torch.jit.script(model)
    example = (torch.randn(1, 32), torch.tensor(8))
    export_legacy(scripted, example, path, ["state", "limit"], ["tokens", "last_state"], {"tokens": {1: "length"}})
    spec = ModelSpec({"state": InputSpec("normal"), "limit": InputSpec("integers", 12, 24)})
    return check(model, path, spec)


class NewtonRoot(nn.Module):
    """Square roots by Newton's method until no element moves: torch's while_loop, so an ONNX Loop by way of dynamo."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        def going(guess, moved, steps):
            return (moved > 1e-4) & (steps < 50)

        def step(guess, moved, steps):
            better = 0.5 * (guess + x / guess)
            return better, (better - guess).abs().max(), steps + 1

        start = (x.clone(), torch.tensor(1.0), torch.tensor(0))
        guess, _, steps = torch._higher_order_ops.while_loop(going, step, start)
        return guess, steps


def export_newton_loop(path: Path) -> ModelSpec:
    seed()
    model = NewtonRoot().eval()
    export(model, (torch.rand(3, 4) + 1,), path, ["x"], ["root", "steps"], ({0: Dim("rows"), 1: Dim("columns")},))
    spec = ModelSpec(
        {"x": InputSpec("uniform", 0.5, 9.0)},
        [{"rows": 3, "columns": 4}, {"rows": 1, "columns": 1}, {"rows": 17, "columns": 33}],
        {"rows": 3, "columns": 4},
    )
    return check(model, path, spec)


MODELS: dict[str, Builder] = {
    "lstm": export_lstm,
    "gru": export_gru,
    "mlp_tiny": export_mlp_tiny,
    "greedy_decoder": export_greedy_decoder,
    "newton_loop": export_newton_loop,
}
