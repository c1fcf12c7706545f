"""A picture of ratios between two programs: rows of dots on a logarithmic axis, as SVG written by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

LEFT, RIGHT, TOP, BOTTOM, WIDTH, LIMIT = 210, 70, 64, 30, 900, 4.0
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#718096", "#805ad5")


def geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else float("nan")


@dataclass
class Dot:
    """A ratio in the colour of a number of the legend, with what a pointer over it is told."""

    ratio: float
    colour: int
    text: str


@dataclass
class Row:
    """Dots beside a name; `mean` is marked by a bar and written at the end. A heading has no dots."""

    name: str
    dots: list[Dot] = field(default_factory=list)
    mean: float | None = None


def place(ratio: float) -> float:
    """The column of a ratio: 1 in the middle, what is beyond 16 either way at the edge."""
    power = min(max(math.log2(ratio), -LIMIT), LIMIT)
    return LEFT + (power + LIMIT) / (2 * LIMIT) * (WIDTH - LEFT - RIGHT)


def axis(height: int) -> list[str]:
    parts = []
    for power in range(-int(LIMIT), int(LIMIT) + 1):
        x = place(2.0**power)
        colour = "#444" if power == 0 else "#ddd"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - BOTTOM}" stroke="{colour}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 12}" text-anchor="middle">{2.0**power:g}</text>')
    return parts


def draw_row(row: Row, y: float, spread: float) -> list[str]:
    weight = "" if row.dots or row.mean else ' font-weight="bold"'
    parts = [f'<text x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end"{weight}>{escape(row.name)}</text>']
    for number, dot in enumerate(row.dots):
        parts.append(
            f'<circle cx="{place(dot.ratio):.1f}" cy="{y + (number % 5 - 2) * spread:.1f}" r="3.5" '
            f'fill="{COLOURS[dot.colour]}" fill-opacity="0.75"><title>{escape(dot.text)}</title></circle>'
        )
    if row.mean:
        x = place(row.mean)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 9:.1f}" y2="{y + 9:.1f}" stroke="#000" stroke-width="2"/>'
        )
        parts.append(f'<text x="{WIDTH - RIGHT + 10}" y="{y + 4:.1f}">{row.mean:.2f}</text>')
    return parts


def picture(title: str, legend: Sequence[str], rows: Sequence[Row], step: int = 28, spread: float = 3.5) -> str:
    """The whole picture. `step` is the height of a row; dots of a row are `spread` apart."""
    height = TOP + step * len(rows) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for index, name in enumerate(legend):
        x = LEFT + 130 * index
        parts.append(f'<circle cx="{x + 5}" cy="36" r="4" fill="{COLOURS[index]}"/>')
        parts.append(f'<text x="{x + 14}" y="40">{escape(name)}</text>')
    parts += axis(height)
    for index, row in enumerate(rows):
        parts += draw_row(row, TOP + step * (index + 0.5), spread)
    return "\n".join([*parts, "</svg>", ""])
