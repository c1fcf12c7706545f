"""An LSTM and a GRU, batch and length symbolic, with sequences of different lengths in one batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from test_models import Feeds, TestModel, parse

LSTM = """
<ir_version: 10, opset_import: ["": 20]>
lstm (float[steps, batch, 5] x, int32[batch] lengths, float[2, batch, 6] start_h, float[2, batch, 6] start_c)
  => (float[steps, batch, 3] scores, float[2, batch, 6] last_h, float[2, batch, 6] last_c)
{
  y, last_h, last_c = LSTM <direction = "bidirectional", hidden_size = 6> (x, W, R, B, lengths, start_h, start_c)
  sides = Transpose <perm = [0, 2, 1, 3]> (y)
  joined = Reshape (sides, joined_shape)
  scores = MatMul (joined, head)
}
"""

GRU = """
<ir_version: 10, opset_import: ["": 20]>
gru (float[steps, batch, 4] x) => (float[steps, 1, batch, 8] y, float[1, batch, 8] last)
{
  y, last = GRU <hidden_size = 8, linear_before_reset = 1> (x, W, R, B)
}
"""


def models() -> Iterator[TestModel]:
    random = np.random.default_rng(1)

    def weights(*shape: int) -> np.ndarray:
        return random.normal(0, 0.5, shape).astype(np.float32)

    lstm = parse(
        LSTM,
        W=weights(2, 24, 5),
        R=weights(2, 24, 6),
        B=weights(2, 48),
        joined_shape=np.array([0, 0, 12], np.int64),
        head=weights(12, 3),
    )
    cases: list[Feeds] = []
    for lengths in ([9], [4, 7, 2], [1, 1]):
        batch = len(lengths)
        cases.append(
            {
                "x": weights(max(lengths), batch, 5),
                "lengths": np.array(lengths, np.int32),
                "start_h": weights(2, batch, 6),
                "start_c": weights(2, batch, 6),
            }
        )
    yield TestModel("lstm", lstm, cases, alone="onnx's evaluator does not read sequence_lens")

    gru = parse(GRU, W=weights(1, 24, 4), R=weights(1, 24, 8), B=weights(1, 48))
    yield TestModel("gru", gru, [{"x": weights(*shape, 4)} for shape in ((6, 1), (3, 4), (1, 2))])
