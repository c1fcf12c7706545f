"""What is printed and drawn of the results: a table, means by family and type, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ratio_picture
from operator_speed.measure import Result
from ratio_picture import Dot, Row, geometric_mean

KINDS = ("float32", "integer", "16 bit", "other")


def table(results: Sequence[Result]) -> str:
    """A line for each case that was timed, the slowest against the peer first."""
    lines = [f"{'case':56} {'apus µs':>10} {'peer µs':>10} {'ratio':>6} {'difference':>10}"]
    for result in sorted((result for result in results if result.status == "timed"), key=lambda result: result.ratio):
        marks = ["differs"] if result.differs else []
        marks += [result.reason] if result.reason else []
        lines.append(
            f"{result.name:56} {result.apus_us:10.1f} {result.peer_us:10.1f} {result.ratio:6.2f} "
            f"{result.difference:10.1e} {'; '.join(marks)}".rstrip()
        )
    return "\n".join(lines)


def others(results: Sequence[Result]) -> str:
    """The cases that were not timed, with the reason."""
    left = [result for result in results if result.status != "timed"]
    return "\n".join(f"{result.status}: {result.name}: {result.reason}" for result in left)


def means(results: Sequence[Result]) -> str:
    """Geometric means of the ratios, families by rows and types by columns."""
    timed = [result for result in results if result.status == "timed"]
    families = list(dict.fromkeys(result.family for result in timed))

    def cell(family: str | None, kind: str | None) -> str:
        ratios = [result.ratio for result in timed if family in (None, result.family) and kind in (None, result.kind)]
        return f"{geometric_mean(ratios):8.2f} ({len(ratios):3})" if ratios else f"{'–':>14}"

    lines = [f"{'geometric means':24}" + "".join(f"{kind:>15}" for kind in (*KINDS, "all"))]
    for family in (*families, None):
        cells = "".join(f" {cell(family, kind)}" for kind in (*KINDS, None))
        lines.append(f"{family or 'all':24}{cells}")
    return "\n".join(lines)


def counts(results: Sequence[Result]) -> str:
    timed = [result for result in results if result.status == "timed"]
    slow = [result for result in timed if result.is_slow]
    explained = sum(result.reason is not None for result in slow)
    far = sum(result.ratio < 0.5 for result in timed)
    return (
        f"{len(timed)} timed, {sum(result.status == 'skipped' for result in results)} skipped, "
        f"{sum(result.status == 'failed' for result in results)} failed, "
        f"{sum(result.differs for result in timed)} differ; "
        f"{len(slow)} below 0.9 ({explained} with a reason), {far} below 0.5"
    )


def changes(results: Sequence[Result], before: dict[str, dict[str, Any]]) -> str:
    """Cases whose ratio is another one than in an earlier run, by a tenth or more: the greatest gain first."""
    lines = []
    factors = []
    for result in results:
        old = before.get(result.name, {}).get("ratio")
        if result.status != "timed" or not old:
            continue
        factors.append(result.ratio / old)
        if not 1 / 1.1 < factors[-1] < 1.1:
            lines.append((factors[-1], f"{result.name:56} ratio {old:6.2f} -> {result.ratio:6.2f}"))
    if not factors:
        return "no case is in both runs"
    ordered = [line for _, line in sorted(lines, reverse=True)]
    mean = geometric_mean(factors)
    return "\n".join([f"changes; {len(factors)} cases in both runs, ratios times {mean:.3f} in the mean", *ordered])


def picture(results: Sequence[Result], title: str) -> str:
    """An SVG: a row for each family, a dot for each case, a bar at the geometric mean."""
    timed = [result for result in results if result.status == "timed"]
    rows = []
    for family in dict.fromkeys(result.family for result in timed):
        members = [result for result in timed if result.family == family]
        dots = [Dot(result.ratio, KINDS.index(result.kind), f"{result.name}: {result.ratio:.2f}") for result in members]
        rows.append(Row(family, dots, geometric_mean([result.ratio for result in members])))
    rows.append(Row("all", mean=geometric_mean([result.ratio for result in timed])))
    return ratio_picture.picture(title, KINDS, rows)
