"""What is printed and drawn of the results: a table, means by family and type, a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from operator_speed.measure import Result

KINDS = ("float32", "integer", "16 bit", "other")
COLOURS = {"float32": "#2b6cb0", "integer": "#c05621", "16 bit": "#2f855a", "other": "#718096"}


def geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else float("nan")


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


def picture(results: Sequence[Result], title: str) -> str:
    """An SVG: a row for each family, a dot for each case at its ratio (logarithmic), a bar at the geometric mean."""
    timed = [result for result in results if result.status == "timed"]
    families = list(dict.fromkeys(result.family for result in timed))
    left, right, top, row, width = 190, 70, 70, 30, 900
    height = top + row * (len(families) + 1) + 30
    low, high = -4.0, 4.0

    def x(ratio: float) -> float:
        place = (min(max(math.log2(ratio), low), high) - low) / (high - low)
        return left + place * (width - left - right)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for index, kind in enumerate(KINDS):
        at = left + 110 * index
        parts.append(f'<circle cx="{at + 5}" cy="36" r="4" fill="{COLOURS[kind]}"/>')
        parts.append(f'<text x="{at + 14}" y="40">{kind}</text>')
    for power in range(int(low), int(high) + 1):
        at, bold = x(2.0**power), power == 0
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top - 8}" y2="{height - 30}" '
            f'stroke="{"#444" if bold else "#ddd"}"/>'
            f'<text x="{at:.1f}" y="{height - 12}" text-anchor="middle">{2.0**power:g}</text>'
        )
    for index, family in enumerate((*families, None)):
        y = top + row * index + row / 2
        members = [result for result in timed if family in (None, result.family)]
        mean = geometric_mean([result.ratio for result in members])
        parts.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(family or "all")}</text>')
        for number, result in enumerate(members if family else []):
            parts.append(
                f'<circle cx="{x(result.ratio):.1f}" cy="{y + (number % 5 - 2) * 3.5:.1f}" r="3" '
                f'fill="{COLOURS[result.kind]}" fill-opacity="0.7"><title>{escape(result.name)}: {result.ratio:.2f}'
                f"</title></circle>"
            )
        parts.append(
            f'<line x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="{y - 11}" y2="{y + 11}" stroke="black" '
            f'stroke-width="2.5"/><text x="{width - right + 10}" y="{y + 4}">{mean:.2f}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
