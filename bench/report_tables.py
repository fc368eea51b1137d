"""The tables of a report, from what was measured. Pure."""

from collections.abc import Callable
from statistics import median
from typing import Final

from bench.figures import Row, Run, Sample
from bench.report_grid import Cell, Grid
from bench.report_ratios import Against, Curve, Effort, Verdict, Verdicts
from bench.report_units import NONE, memory, percent, rate, ratio, seconds, span

CLEAR: Final = 1.5
"""From here on a row is won clearly."""


def headline(run: Run, verdicts: Verdicts) -> str:
    """What the run says, in a sentence or two."""
    said = []
    if verdicts.contested:
        said.append(
            f"{verdicts.ours} was faster than the fastest peer on {verdicts.won} of "
            f"{verdicts.contested} rows."
        )
    elif verdicts.rows:
        said.append("No peer was measured.")
    clear = [one.row for one in verdicts.rows if _ratio_to_fastest(one) >= CLEAR]
    if clear:
        said.append(f"At least {CLEAR} times as fast as every peer: {'; '.join(clear)}.")
    grown = {
        curve.name: growth
        for curve in verdicts.curves
        if (growth := curve.growth(verdicts.ours)) is not None
    }
    if grown:
        most = max(grown, key=lambda name: grown[name])
        said.append(
            f"With the most files one operation cost {verdicts.ours} at most {ratio(grown[most])} "
            f"times what it cost with the fewest ({most})."
        )
    if run.quick:
        said.append("A quick run: small sizes, few repetitions, no claim.")
    if not run.complete:
        said.append("It was interrupted: these are the rows that were measured.")
    return " ".join(said) or "Nothing was measured."


def _ratio_to_fastest(verdict: Verdict) -> float:
    fastest = verdict.fastest
    return (fastest.ratio or 0.0) if fastest else 0.0


def ratios(verdicts: Verdicts) -> Grid:
    """Ours against each system."""
    others = [one.system for one in verdicts.rows[0].against] if verdicts.rows else []
    ours = verdicts.ours
    return Grid(
        title="Ratios",
        note=(
            f"How many times as fast {ours} is as each system; above 1 it is faster. Medians of "
            "the ratios within a repetition; the fastest peer is bold, and beside it is the range "
            "of the repetitions. A range that holds 1 is a close race; * means that repetitions "
            "are missing."
        ),
        header=["row", ours, "spread", *others, "fastest peer", "range", "outcome"],
        rows=[_ratio_line(one) for one in verdicts.rows]
        + [_effort_line(verdicts, others), _memory_line(verdicts, others)],
    )


def _ratio_line(verdict: Verdict) -> list[Cell]:
    fastest = verdict.fastest
    return [
        Cell(verdict.row),
        Cell(rate(verdict.rate, verdict.amount_unit)),
        Cell(percent(verdict.spread)),
        *(_ratio_cell(one) for one in verdict.against),
        Cell(fastest.system if fastest else NONE),
        Cell(span(fastest.low, fastest.high) if fastest else NONE),
        _outcome(verdict),
    ]


def _ratio_cell(one: Against) -> Cell:
    if one.ratio is None:
        return Cell("failed" if one.failure else NONE, tone="muted")
    counts = one.kind == "peer"
    text = ratio(one.ratio) + ("*" if one.failure else "")
    return Cell(text, strong=one.fastest, tone="bad" if counts and one.ratio <= 1 else "")


def _outcome(verdict: Verdict) -> Cell:
    if verdict.outcome == "no peer":
        return Cell("no peer", tone="muted")
    text = f"{verdict.outcome}, close" if verdict.close else verdict.outcome
    if verdict.seconds is None:
        text = f"{verdict.outcome}, failed"
    return Cell(text, strong=True, tone="good" if verdict.outcome == "won" else "bad")


def _effort_line(verdicts: Verdicts, others: list[str]) -> list[Cell]:
    """Theirs divided by ours, as with the ratios above it."""
    efforts = {one.system: one for one in verdicts.effort}
    mine = efforts.get(verdicts.ours)
    cells = [_effort_ratio(efforts.get(one)) for one in others]
    total = seconds(mine.driver_cpu) if mine and mine.rows else NONE
    return [
        Cell("driver CPU, all rows"),
        Cell(total),
        Cell(""),
        *cells,
        *(Cell("") for _ in range(3)),
    ]


def _effort_ratio(effort: Effort | None) -> Cell:
    if effort is None or not effort.ours or not effort.driver_cpu:
        return Cell(NONE, tone="muted")
    return Cell(ratio(effort.driver_cpu / effort.ours))


def _memory_line(verdicts: Verdicts, others: list[str]) -> list[Cell]:
    peaks = {one.system: one.peak_memory for one in verdicts.effort}
    cells = [Cell(memory(peaks.get(one, 0))) for one in others]
    return [
        Cell("driver's peak memory"),
        Cell(memory(peaks.get(verdicts.ours, 0))),
        Cell(""),
        *cells,
        *(Cell("") for _ in range(3)),
    ]


def failures(verdicts: Verdicts) -> Grid | None:
    """What is missing, and why; None if nothing is."""
    rows: dict[tuple[str, str], list[str]] = {}
    for one in verdicts.failures:
        rows.setdefault((one.system, one.reason), []).append(one.row or "every row")
    if not rows:
        return None
    return Grid(
        title="Failed or missing",
        header=["system", "rows", "why"],
        rows=[
            [Cell(system), Cell("; ".join(which)), Cell(reason)]
            for (system, reason), which in rows.items()
        ],
        words=3,
    )


def systems(run: Run) -> Grid:
    """Who took part, and how."""
    return Grid(
        title="Systems",
        header=["system", "kind", "version", "setting"],
        rows=[
            [Cell(one.name), Cell(one.kind), Cell(one.version), Cell(one.setting or NONE)]
            for one in run.systems
        ],
        words=4,
    )


def medians(run: Run) -> Grid:
    """Seconds of each system in each row."""
    return _per_system(
        run,
        "Seconds",
        "Medians of the wall clock, and (slowest - fastest) / median.",
        lambda one: f"{seconds(one.median)} ± {percent(one.spread)}",
    )


def cpu(run: Run) -> Grid:
    """CPU seconds of driver and client."""
    return _per_system(
        run,
        "CPU seconds, driver + client",
        "Medians. What works inside the kernel has no driver: its work is its client's.",
        lambda one: f"{_middle(one.driver_cpu)} + {_middle(one.client_cpu)}",
    )


def _per_system(run: Run, title: str, note: str, text: Callable[[Sample], str]) -> Grid:
    lines = []
    for row in run.rows:
        samples = {one.system: one for one in row.samples if one.seconds}
        cells = [
            Cell(text(samples[one.name])) if one.name in samples else Cell(NONE, tone="muted")
            for one in run.systems
        ]
        lines.append([Cell(row.name), *cells])
    return Grid(
        title=title, note=note, header=["row", *(one.name for one in run.systems)], rows=lines
    )


def _middle(taken: list[float]) -> str:
    return seconds(median(taken)) if taken else NONE


def curves(found: list[Curve], names: list[str]) -> Grid:
    """Cost of one operation by the number of files."""
    return Grid(
        title="Scale",
        note=(
            "Time of one operation by the number of files in the store, medians; growth is the "
            "most files relative to the fewest."
        ),
        header=["operation", "files", *names],
        rows=[line for curve in found for line in _curve(curve, names)],
    )


def _curve(curve: Curve, names: list[str]) -> list[list[Cell]]:
    lines = {name: dict(curve.of(name)) for name in names}
    rows = [
        [
            Cell(curve.name),
            Cell(f"{scale:,}"),
            *(_microseconds(lines[name].get(scale)) for name in names),
        ]
        for scale in sorted({one.scale for one in curve.points})
    ]
    growth = [Cell(ratio(curve.growth(name)), strong=True) for name in names]
    return [*rows, [Cell(curve.name), Cell("growth", strong=True), *growth]]


def _microseconds(value: float | None) -> Cell:
    return Cell(seconds(None if value is None else value / 1e6))


def workloads(run: Run) -> Grid:
    """What each row is."""
    return Grid(
        title="Rows",
        header=["row", "what the client does", "amount"],
        rows=[[Cell(row.name), Cell(row.does), Cell(_amount(row))] for row in run.rows],
        words=3,
    )


def _amount(row: Row) -> str:
    if row.amount_unit == "bytes":
        return f"{row.amount / (1 << 20):,.0f} MiB"
    return f"{row.amount:,.0f}"
