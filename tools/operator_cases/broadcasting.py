"""Shapes that broadcast: both ways as in NumPy, one way, and by the attributes of versions before 7."""

from __future__ import annotations

from .case import Case


def broadcast_shapes(case: Case, count: int) -> list[list[int]]:
    """Shapes of `count` tensors that broadcast to one another; often all are equal."""
    shape = case.shape(high=17)
    if case.chance(0.3):
        return [list(shape) for _ in range(count)]
    shapes = []
    for _ in range(count):
        own = [1 if case.chance(0.25) else extent for extent in shape]
        cut = case.size(0, len(own)) if case.chance(0.4) else 0
        shapes.append(own[cut:])
    return shapes


def shape_within(case: Case, shape: list[int]) -> list[int]:
    """A shape that broadcasts to `shape` and does not enlarge it."""
    own = [1 if case.chance(0.25) else extent for extent in shape]
    return own[case.size(0, len(own)) if case.chance(0.4) else 0 :]


def legacy_shapes(case: Case) -> tuple[list[int], list[int], dict]:
    """Shapes of A and B and the attributes `broadcast` and `axis`, as versions 1 to 6 of the arithmetic have them."""
    case.keeps_ranks = True
    left = case.shape(low=1, high=11)
    if case.chance(0.3):
        return left, list(left), {}
    form = case.pick("scalar", "one", "suffix", "axis")
    if form == "scalar":
        return left, [], {"broadcast": 1}
    if form == "one":
        return left, [1] * case.size(min(1, len(left)), len(left)), {"broadcast": 1}
    start = case.size(0, max(0, len(left) - 1))
    if form == "suffix":
        return left, left[start:], {"broadcast": 1}
    stop = case.size(min(start + 1, len(left)), len(left))
    if stop == start:
        return left, [], {"broadcast": 1}
    return left, left[start:stop], {"broadcast": 1, "axis": start}
