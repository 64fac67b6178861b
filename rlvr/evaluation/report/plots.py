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

from rlvr.evaluation.report.extras import Bin, Stratum
from rlvr.evaluation.report.scores import Table, described
from rlvr.evaluation.report.text import Metric, number
from rlvr.invisible import printable

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
    """Every stage and shortcut as a point with its interval; dashed: chance of an AUROC; dotted: the best shortcut."""
    rows = [row for row in table.rows if row.cells[column] is not None]
    shown = table.columns[column]

    def draw(axes: Axes, theme: Theme) -> None:
        if "auroc" in shown.key:
            axes.axvline(0.5, color=theme.muted, linewidth=0.8, dashes=(4, 3))
        _intervals(axes, theme, [(row.name, row.cells[column], row.kind == "stage", row.best) for row in rows])

    alt = f"{shown.name} with 95 % intervals: " + "; ".join(described(row, column) for row in rows)
    return picture(draw, alt, 0.5 + 0.2 * len(rows))


def strata(found: Sequence[Stratum], title: str) -> Picture:
    """Each stratum as a point with its interval, in the order given."""

    def draw(axes: Axes, theme: Theme) -> None:
        _intervals(axes, theme, [(stratum.name or stratum.of, stratum.figure, True, False) for stratum in found])

    parts = [f"{s.name or s.of} {number(s.figure.value)} ({s.figure.interval})" for s in found]
    return picture(draw, f"{title} with 95 % intervals: " + "; ".join(parts), 0.5 + 0.2 * len(found))


def _intervals(axes: Axes, theme: Theme, lines: Sequence[tuple[str, Metric | None, bool, bool]]) -> None:
    """(name, figure, whether it is the model's, whether it is the best shortcut) of each line, from the top."""
    for place, (_, figure, own, best) in enumerate(lines):
        if figure is None:
            continue
        color = theme.accent if own else theme.muted
        if figure.low is not None and figure.high is not None:
            axes.plot([figure.low, figure.high], [place, place], color=color, linewidth=2.0 if own else 1.2)
        axes.plot([figure.value], [place], "o" if own else "D", color=color, markersize=5.5 if own else 4)
        if best:
            axes.axvline(figure.value, color=color, linewidth=0.9, linestyle=":")
    axes.set_yticks(range(len(lines)), [printable(name, 40) for name, *_ in lines])
    for tick, (_, _, own, _) in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_color(theme.ink if own else theme.muted)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)


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


def reliability(stages: Mapping[str, Sequence[Bin]], task: str) -> Picture:
    """The share that held over the probability said, one line a stage; on the diagonal a model is as sure as it
    should be. Larger dots hold more answers."""

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot([0, 1], [0, 1], color=theme.muted, linewidth=0.9, linestyle="--")
        most = max(bin.n for bins in stages.values() for bin in bins)
        for place, (name, bins) in enumerate(stages.items()):
            color = theme.lines[place % len(theme.lines)]
            x, y = [bin.said for bin in bins], [bin.held for bin in bins]
            axes.plot(x, y, color=color, linewidth=1.5, label=printable(name, 24))
            axes.scatter(x, y, s=[8 + 52 * bin.n / most for bin in bins], color=color, linewidths=0)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.set_xlabel("probability said")
        axes.set_ylabel("share that held")
        axes.grid(linewidth=0.6)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=7.5, borderpad=0)

    parts = [
        f"{name} " + ", ".join(f"{number(bin.said, 2)}: {number(bin.held, 2)} of {bin.n}" for bin in bins)
        for name, bins in stages.items()
    ]
    return picture(draw, f"Share that held by the probability said, on {task}: " + "; ".join(parts), 3.1)


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
