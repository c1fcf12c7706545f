"""Grids and regions of images in NumPy and double precision, by the specification."""

from __future__ import annotations

import itertools
import math

import numpy as np

from .case import Case
from .plain_layers import double, results


def affine_grid(case: Case) -> list[np.ndarray]:
    theta = double(case, 0)
    extents = [int(extent) for extent in np.ravel(case.operand(1))[2:]]
    aligned = case.attribute("align_corners", 0)
    lines = []
    for extent in extents:
        place = np.arange(extent)
        if aligned:
            lines.append(np.linspace(-1, 1, extent) if extent > 1 else np.array([-1.0]))
        else:
            lines.append((2 * place + 1) / extent - 1)
    axes = np.meshgrid(*lines, indexing="ij")[::-1]
    points = np.stack([*axes, np.ones(extents)], axis=-1)
    return results(case, np.einsum("nij,...j->n...i", theta, points))


def max_roi_pool(case: Case) -> list[np.ndarray]:
    """Regions are rounded to pixels, and so are the bins in them; a bin of nothing is 0."""
    x, rois = double(case, 0), double(case, 1)
    rows, columns = case.attribute("pooled_shape")
    scale = case.attribute("spatial_scale", 1.0)
    y = np.zeros([len(rois), x.shape[1], rows, columns])
    for index, roi in enumerate(rois):
        left, top, right, bottom = (math.floor(value * scale + 0.5) for value in roi[1:])
        height, width = max(bottom - top + 1, 1), max(right - left + 1, 1)
        for row, column in itertools.product(range(rows), range(columns)):
            first = min(max(row * height // rows + top, 0), x.shape[2])
            last = min(max(-(-(row + 1) * height // rows) + top, 0), x.shape[2])
            start = min(max(column * width // columns + left, 0), x.shape[3])
            end = min(max(-(-(column + 1) * width // columns) + left, 0), x.shape[3])
            if first < last and start < end:
                y[index, :, row, column] = x[int(roi[0]), :, first:last, start:end].max(axis=(1, 2))
    return results(case, y)
