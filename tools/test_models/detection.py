"""A detector of bright blobs in grey images of any size, ending in NonMaxSuppression.

Not trained, but it does detect: two Laplacian-of-Gaussian filters answer to discs of their size, every pixel proposes a
box of each size, and overlapping boxes fall to the stronger answer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from test_models import Feeds, TestModel, parse

RADII = (3.0, 6.0)

DETECTOR = """
<ir_version: 10, opset_import: ["": 20]>
blob_detector (float[1, 1, height, width] image) => (float[found, 4] boxes, float[found] scores, int64[found] sizes)
{
  answers = Conv <auto_pad = "SAME_UPPER"> (image, filters)
  rows = Shape <start = 2, end = 3> (answers)
  columns = Shape <start = 3, end = 4> (answers)
  row_count = Squeeze (rows)
  column_count = Squeeze (columns)
  y_line = Range (zero, row_count, one)
  x_line = Range (zero, column_count, one)
  y_grid = Unsqueeze (y_line, last)
  grid_shape = Concat <axis = 0> (rows, columns)
  y_full = Expand (y_grid, grid_shape)
  x_full = Expand (x_line, grid_shape)
  y_flat = Reshape (y_full, column)
  x_flat = Reshape (x_full, column)
  centres_int = Concat <axis = -1> (y_flat, x_flat, y_flat, x_flat)
  centres = CastLike (centres_int, reach)
  centres_3d = Unsqueeze (centres, first)
  proposals_3d = Add (centres_3d, reach)
  proposals = Reshape (proposals_3d, box_list)
  strength = Reshape (answers, score_list)
  chosen = NonMaxSuppression <center_point_box = 0> (proposals, strength, most, overlap, threshold)
  index = Gather <axis = 1> (chosen, two)
  box_rows = Squeeze (proposals, first)
  boxes = Gather (box_rows, index)
  score_row = Reshape (answers, flat)
  scores = Gather (score_row, index)
  pixels = Mul (row_count, column_count)
  sizes = Div (index, pixels)
}
"""


def blob_filters() -> np.ndarray:
    """One filter a radius, of 25×25: the negated Laplacian of a Gaussian, scaled to answer 1 to a disc of its size."""
    line = np.arange(-12, 13)
    square = line[:, None] ** 2 + line[None, :] ** 2
    filters = []
    for radius in RADII:
        variance = radius**2 / 2
        kernel = (1 - square / (2 * variance)) * np.exp(-square / (2 * variance))
        kernel -= kernel.mean()
        filters.append(kernel / kernel[square <= radius**2].sum())
    return np.array(filters, np.float32)[:, None]


def discs(height: int, width: int, count: int, random: np.random.Generator) -> np.ndarray:
    """A noisy image with bright discs of both sizes."""
    image = random.normal(0, 0.02, (height, width))
    y, x = np.mgrid[:height, :width]
    for _ in range(count):
        radius = random.choice(RADII)
        centre = random.uniform(8, height - 8), random.uniform(8, width - 8)
        image[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2] += random.uniform(0.6, 1)
    return image.astype(np.float32)[None, None]


def models() -> Iterator[TestModel]:
    random = np.random.default_rng(2)
    proto = parse(
        DETECTOR,
        filters=blob_filters(),
        zero=np.array(0, np.int64),
        one=np.array(1, np.int64),
        two=np.array(2, np.int64),
        first=np.array([0], np.int64),
        last=np.array([-1], np.int64),
        column=np.array([-1, 1], np.int64),
        flat=np.array([-1], np.int64),
        box_list=np.array([1, -1, 4], np.int64),
        score_list=np.array([1, 1, -1], np.int64),
        reach=np.array([[[-r, -r, r, r]] for r in RADII], np.float32),
        most=np.array([100], np.int64),
        overlap=np.array([0.1], np.float32),
        threshold=np.array([0.45], np.float32),
    )
    cases: list[Feeds] = [
        {"image": discs(height, width, count, random)}
        for height, width, count in ((48, 64, 3), (33, 57, 2), (80, 80, 6))
    ]
    cases.append({"image": np.zeros((1, 1, 30, 30), np.float32)})  # nothing to find
    yield TestModel("blob_detector", proto, cases)
