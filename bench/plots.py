"""Plots of a report as PNG, by matplotlib, for light and for dark pages.

Each function draws one figure and returns its bytes. Colours follow the system, not its place, and
keep apart for the colour-blind (Okabe and Ito 2008); markers tell them apart in print.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from bench.figures import Row, Run
from bench.hot_path_figures import HotPathRun
from bench.keys_figures import STEPS, KeysRun
from bench.report_ratios import Curve, Verdicts

Theme = Literal["light", "dark"]

_DOTS_PER_INCH: Final = 110
_MEBIBYTE: Final = 1 << 20
_PEERS: Final = ("#E69F00", "#009E73", "#CC79A7", "#D55E00", "#9467BD", "#B8A800", "#8C564B")
_MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X", "*")
_INK: Final[dict[Theme, str]] = {"light": "#1f2328", "dark": "#e6e6e6"}
_PAPER: Final[dict[Theme, str]] = {"light": "#ffffff", "dark": "#16181c"}
_OURS: Final[dict[Theme, str]] = {"light": "#0062b8", "dark": "#4aa8ff"}
_OTHERS: Final = "#8a8f98"


@contextmanager
def _styled(theme: Theme) -> Iterator[None]:
    ink, paper = _INK[theme], _PAPER[theme]
    with mpl.rc_context(
        {
            "figure.facecolor": paper,
            "axes.facecolor": paper,
            "savefig.facecolor": paper,
            "text.color": ink,
            "axes.labelcolor": ink,
            "axes.edgecolor": _OTHERS,
            "xtick.color": ink,
            "ytick.color": ink,
            "grid.color": _OTHERS,
            "grid.alpha": 0.25,
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        }
    ):
        yield


def _png(figure: Figure) -> bytes:
    drawn = io.BytesIO()
    # No date and no version, so that equal figures are equal files.
    figure.savefig(drawn, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return drawn.getvalue()


def _looks(names: list[str], kinds: dict[str, str], theme: Theme) -> dict[str, dict[str, Any]]:
    """System -> how its points and lines look."""
    looks: dict[str, dict[str, Any]] = {}
    peers = 0
    for at, name in enumerate(names):
        kind = kinds.get(name, "peer")
        colour = _OTHERS
        if kind == "ours":
            colour = _OURS[theme]
        elif kind == "peer":
            colour = _PEERS[peers % len(_PEERS)]
            peers += 1
        looks[name] = {
            "color": colour,
            "marker": _MARKERS[at % len(_MARKERS)],
            "zorder": 4 if kind == "ours" else 3,
        }
    return looks


def _kinds(run: Run) -> tuple[list[str], dict[str, str]]:
    return [one.name for one in run.systems], {one.name: one.kind for one in run.systems}


def ratios(run: Run, verdicts: Verdicts, theme: Theme) -> bytes:
    """For each row, how many times as fast ours is as each system; right of 1 is a win."""
    names, kinds = _kinds(run)
    rows = verdicts.rows
    with _styled(theme):
        figure = Figure(figsize=(9, 1.6 + 0.34 * len(rows)), layout="constrained")
        axes = figure.subplots()
        looks = _looks(names, kinds, theme)
        for name in names:
            points = [
                (at, one)
                for at, row in enumerate(rows)
                for one in row.against
                if one.system == name and one.ratio is not None
            ]
            if points:
                axes.errorbar(
                    [one.ratio or 0.0 for _at, one in points],
                    [at for at, _one in points],
                    xerr=_whiskers(points),
                    linestyle="none",
                    label=name,
                    markersize=5,
                    elinewidth=1,
                    alpha=0.55 if kinds[name] in ("floor", "limit") else 1.0,
                    **looks[name],
                )
        axes.axvline(1.0, color=_OURS[theme], linewidth=1.2)
        axes.set_yticks(range(len(rows)), [one.row for one in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        _logarithmic(axes, "x", base=2)
        axes.grid(axis="x")
        axes.set_xlabel(f"times as fast {verdicts.ours} is (left of the line: slower)")
        _legend(figure, names)
        return _png(figure)


def _legend(figure: Figure, names: list[str], *, beside: bool = False) -> None:
    """Each once, in their order, although it may be missing in some of the panels."""
    known: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        known |= dict(zip(labels, handles, strict=True))
    shown = [name for name in names if name in known]
    if shown:
        place: Literal["outside right center", "outside upper center"]
        place = "outside right center" if beside else "outside upper center"
        columns = 1 if beside else min(len(shown), 8)
        figure.legend([known[name] for name in shown], shown, loc=place, ncols=columns)


def _whiskers(points: list[Any]) -> list[list[float]]:
    return [
        [max(0.0, one.ratio - (one.low or one.ratio)) for _at, one in points],
        [max(0.0, (one.high or one.ratio) - one.ratio) for _at, one in points],
    ]


def _logarithmic(axes: Any, *which: Literal["x", "y"], base: int = 10) -> None:
    """With numbers as people write them."""
    for name in which:
        axis = axes.xaxis if name == "x" else axes.yaxis
        axes.set(**{f"{name}scale": "log"})
        axis.set_major_locator(LogLocator(base, subs=(1, 2, 5) if base > 2 else (1,)))  # noqa: PLR2004
        axis.set_major_formatter(lambda value, _position: f"{value:,.12g}")
        axis.set_minor_locator(NullLocator())


def throughput(run: Run, verdicts: Verdicts, theme: Theme) -> bytes:
    """Rates of every system in every row, bytes and operations apart."""
    names, kinds = _kinds(run)
    wanted = {one.row for one in verdicts.rows}
    rows = [row for row in run.rows if row.name in wanted]
    panels = [
        (unit, label, [row for row in rows if row.amount_unit == unit])
        for unit, label in (("bytes", "MiB/s"), ("operations", "operations/s"))
    ]
    panels = [panel for panel in panels if panel[2]]
    with _styled(theme):
        heights = [len(panel[2]) for panel in panels] or [1]
        figure = Figure(figsize=(9, 1.8 + 0.34 * sum(heights)), layout="constrained")
        grid = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        looks = _looks(names, kinds, theme)
        for axes, (unit, label, chosen) in zip(grid, panels, strict=False):
            for name in names:
                _rates(axes, chosen, name, _MEBIBYTE if unit == "bytes" else 1, looks[name])
            axes.set_yticks(range(len(chosen)), [row.name for row in chosen])
            axes.set_ylim(len(chosen) - 0.5, -0.5)
            _logarithmic(axes, "x")
            axes.grid(axis="x")
            axes.set_xlabel(label)
        _legend(figure, names)
        return _png(figure)


def _rates(axes: Any, rows: list[Row], name: str, unit: int, look: dict[str, Any]) -> None:
    points = [
        (row.amount / unit / sample.median, at)
        for at, row in enumerate(rows)
        for sample in row.samples
        if sample.system == name and sample.median
    ]
    if points:
        axes.plot(*zip(*points, strict=True), linestyle="none", label=name, **look)


def scale(run: Run, curves: list[Curve], theme: Theme) -> bytes:
    """Time for each file by the number of files: flat is good."""
    names, kinds = _kinds(run)
    columns = min(2, len(curves)) or 1
    lines = max(1, math.ceil(len(curves) / columns))
    with _styled(theme):
        figure = Figure(figsize=(9, 0.7 + 2.8 * lines), layout="constrained")
        panels = list(figure.subplots(lines, columns, squeeze=False).flat)
        looks = _looks(names, kinds, theme)
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        for axes, curve in zip(panels, curves, strict=False):
            for name in names:
                line = curve.of(name)
                if line:
                    axes.plot(*zip(*line, strict=True), label=name, markersize=4, **looks[name])
            _logarithmic(axes, "x", "y")
            axes.set_xticks(sorted({one.scale for one in curve.points}))
            axes.set_title(curve.name)
            axes.set_xlabel("files")
            axes.set_ylabel("µs for each")
            axes.grid()
        _legend(figure, names)
        return _png(figure)


def keys(run: KeysRun, theme: Theme) -> bytes:
    """Seconds of each step by the number of files: flat is good."""
    ordered = sorted(run.rows, key=lambda row: row.files)
    with _styled(theme):
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        axes = figure.subplots()
        for at, step in enumerate(STEPS):
            known = [(row.files, row.median(step)) for row in ordered]
            line = [(files, middle) for files, middle in known if middle is not None]
            if line:
                axes.plot(
                    *zip(*line, strict=True),
                    label=step,
                    marker=_MARKERS[at % len(_MARKERS)],
                    linestyle="-" if at < len(_PEERS) else "--",
                    color=_PEERS[at % len(_PEERS)],
                )
        _logarithmic(axes, "x")
        axes.set_xticks([row.files for row in ordered])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("files in the store")
        axes.set_ylabel("seconds")
        axes.grid()
        _legend(figure, list(STEPS), beside=True)
        return _png(figure)


def hot_path(run: HotPathRun, theme: Theme) -> bytes:
    """Speed as a percentage of raw AES-256-GCM, by chunk size."""
    parts = ("chunks encrypt", "file new", "file write", "chunks decrypt", "file read")
    with _styled(theme):
        figure = Figure(figsize=(9, 4), layout="constrained")
        axes = figure.subplots()
        for at, part in enumerate(parts):
            shares = [(row.chunk_size >> 10, row.share(part)) for row in run.rows]
            line = [(size, share * 100) for size, share in shares if share is not None]
            if line:
                axes.plot(
                    *zip(*line, strict=True), label=part, marker=_MARKERS[at], color=_PEERS[at]
                )
        axes.axhline(100, color=_OTHERS, linewidth=1)
        _logarithmic(axes, "x", base=2)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("chunk size, KiB")
        axes.set_ylabel("% of raw AES-256-GCM")
        axes.grid()
        _legend(figure, list(parts), beside=True)
        return _png(figure)
