"""Draws the report's plots with matplotlib: one SVG for light paper and one for dark, as data URIs.

An `<img>` of a data URI runs no script and loads nothing. Text stays text (`svg.fonttype: none`, escaped
by matplotlib) in the reader's own font, and `$` is a dollar, never mathematics.
"""

from __future__ import annotations

import io
import warnings
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlvr.report.scores import Row, Table, described
from rlvr.report.text import number, printable

WIDTH = 3.6  # inches; one panel fills a telephone's width, three stand beside each other on a desk
POINTS = 300  # of a curve; longer runs are averaged into so many bins
Series = tuple[np.ndarray, np.ndarray]  # steps and values, both [n]


@dataclass(frozen=True)
class Theme:
    ink: str
    muted: str
    grid: str
    accent: str
    lines: tuple[str, ...]


# The lines' colours keep a contrast of at least 3 to 1 against the page and differ in lightness.
LIGHT = Theme(
    "#1d2023", "#5c636a", "#e1e1dc", "#0b6b66", ("#0b6b66", "#b0521a", "#5b4bb0", "#8a6d00", "#a12f5d", "#45729c")
)
DARK = Theme(
    "#e8e6e1", "#a3a9b0", "#363b41", "#5ec8bd", ("#5ec8bd", "#f0985e", "#ab9df2", "#d8b84a", "#ef86b0", "#8ab8e0")
)


@dataclass(frozen=True)
class Picture:
    """A plot in both schemes, and what it shows in words."""

    light: Markup
    dark: Markup
    alt: str


def picture(draw: Callable[[Axes, Theme], None], alt: str, height: float) -> Picture:
    """Draw twice; `height` in inches. Equal input gives equal bytes."""
    return Picture(_svg(draw, LIGHT, height), _svg(draw, DARK, height), alt)


def _svg(draw: Callable[[Axes, Theme], None], theme: Theme, height: float) -> Markup:
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "rlvr",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 8.0,
        "axes.unicode_minus": True,
        "axes.edgecolor": theme.grid,
        "axes.labelcolor": theme.muted,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "grid.color": theme.grid,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's font draws the text, not matplotlib's
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        draw(axes, theme)
        out = io.BytesIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue().replace(b"'DejaVu Sans', sans-serif", b"system-ui, sans-serif")
    return Markup("data:image/svg+xml;base64," + b64encode(svg).decode("ascii"))


def forest(table: Table, column: int) -> Picture:
    """Every stage and shortcut as a point with its interval; dashed: chance; dotted: the best shortcut."""
    rows = [row for row in table.rows if row.cells[column] is not None]

    def draw(axes: Axes, theme: Theme) -> None:
        axes.axvline(0.5, color=theme.muted, linewidth=0.8, dashes=(4, 3))
        for place, row in enumerate(rows):
            _interval(axes, theme, place, row, column)
        names = [printable(row.name, 40) for row in rows]
        axes.set_yticks(range(len(rows)), names)
        for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
            tick.set_color(theme.ink if row.kind == "stage" else theme.muted)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.grid(axis="x", linewidth=0.6)
        axes.set_axisbelow(True)

    shown = table.columns[column].name
    alt = f"{shown} with 95 % intervals: " + "; ".join(described(row, column) for row in rows)
    return picture(draw, alt, 0.5 + 0.2 * len(rows))


def _interval(axes: Axes, theme: Theme, place: int, row: Row, column: int) -> None:
    cell = row.cells[column]
    if cell is None:
        return
    stage = row.kind == "stage"
    color = theme.accent if stage else theme.muted
    if cell.low is not None and cell.high is not None:
        axes.plot([cell.low, cell.high], [place, place], color=color, linewidth=2.0 if stage else 1.2)
    axes.plot([cell.value], [place], "o" if stage else "D", color=color, markersize=5.5 if stage else 4)
    if row.best:
        axes.axvline(cell.value, color=color, linewidth=0.9, linestyle=":")


def curves(series: Mapping[str, Series], title: str, *, unit: bool = False) -> Picture:
    """Lines over steps: thin as logged, bold the running mean. `unit` fixes the axis to 0 to 1."""

    def draw(axes: Axes, theme: Theme) -> None:
        for place, (name, (steps, values)) in enumerate(series.items()):
            color = theme.lines[place % len(theme.lines)]
            steps, values = binned(steps, values)
            smooth = running_mean(values, window(len(values)))
            if len(values) == 1:
                axes.plot(steps, values, "o", color=color, markersize=4, label=printable(name, 24))
                continue
            axes.plot(steps, values, color=color, linewidth=0.8, alpha=0.4)
            axes.plot(steps, smooth, color=color, linewidth=1.8, label=printable(name, 24))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if unit:
            axes.set_ylim(-0.03, 1.03)
            axes.set_yticks([0, 0.5, 1])
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        axes.grid(axis="y", linewidth=0.6)
        axes.set_xlabel("step")
        if len(series) > 1:
            columns = 2 if len(series) > 3 else len(series)
            axes.legend(
                loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=7.5, borderpad=0
            )

    parts = [f"{name} from {number(float(y[0]))} to {number(float(y[-1]))}" for name, (_, y) in series.items()]
    steps = next(iter(series.values()))[0]
    alt = f"{title} over steps {int(steps[0])} to {int(steps[-1])}: " + "; ".join(parts)
    return picture(draw, alt, 1.9)


def window(points: int) -> int:
    """How many points the running mean spans: a tenth of the run; the points themselves in a short one."""
    return max(1, points // 10)


def running_mean(values: np.ndarray, span: int) -> np.ndarray:
    """The mean of up to `span` values around each, fewer at the ends; [n] -> [n]."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - (span - 1) // 2, 0)
    high = np.minimum(np.arange(len(values)) + span // 2 + 1, len(values))
    return np.asarray((total[high] - total[low]) / (high - low))


def binned(steps: np.ndarray, values: np.ndarray) -> Series:
    """At most POINTS points, each the mean of its bin."""
    if len(values) <= POINTS:
        return steps, values
    bins: Sequence[np.ndarray] = np.array_split(np.arange(len(values)), POINTS)
    return np.array([steps[b].mean() for b in bins]), np.array([values[b].mean() for b in bins])
