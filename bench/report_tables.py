"""The tables of a report, from what was measured. Pure."""

from collections.abc import Callable
from statistics import median

from bench.figures import Row, Run, Sample
from bench.hot_path_figures import PARTS, RAW, HotPathRun
from bench.keys_figures import FLAT, LAST_READS, STEPS, KeysRow, KeysRun
from bench.operations_figures import OperationsRun
from bench.report_grid import Cell, Grid
from bench.report_ratios import Against, Curve, Effort, Verdict, Verdicts
from bench.report_units import NONE, memory, percent, rate, ratio, seconds, span


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
    grown = [one for curve in verdicts.curves if (one := curve.growth(verdicts.ours))]
    if grown:
        said.append(
            f"With the most files one file cost {verdicts.ours} at most {ratio(max(grown))} times "
            "what it cost with the fewest."
        )
    if run.quick:
        said.append("A quick run: small sizes, few repetitions, no claim.")
    if not run.complete:
        said.append("It was interrupted: these are the rows that were measured.")
    return " ".join(said) or "Nothing was measured."


def ratios(verdicts: Verdicts) -> Grid:
    """Ours against each system."""
    others = [one.system for one in verdicts.rows[0].against] if verdicts.rows else []
    ours = verdicts.ours
    return Grid(
        title="Ratios",
        note=(
            f"How many times as fast {ours} is as each system; above 1 it is faster. Medians of "
            "the ratios within a repetition; the fastest peer is bold, and beside it is the range "
            "of the repetitions. A range that holds 1 is a close race."
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
    if not verdicts.failures:
        return None
    return Grid(
        title="Failed or missing",
        header=["what", "why"],
        rows=[[Cell(what), Cell(why)] for what, why in verdicts.failures.items()],
        words=2,
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


def curves(found: list[Curve], names: list[str]) -> list[Grid]:
    """Cost of one file by the number of files, a table for each curve."""
    return [_curve(curve, names) for curve in found]


def _curve(curve: Curve, names: list[str]) -> Grid:
    lines = {name: dict(curve.of(name)) for name in names}
    scales = sorted({one.scale for one in curve.points})
    rows = [
        [Cell(f"{scale:,}"), *(_microseconds(lines[name].get(scale)) for name in names)]
        for scale in scales
    ]
    growth = [Cell(ratio(curve.growth(name)), strong=True) for name in names]
    return Grid(
        title=f"Scale: {curve.name}",
        note="Time for each file; the last line is the largest relative to the smallest.",
        header=["files", *names],
        rows=[*rows, [Cell("growth", strong=True), *growth]],
    )


def _microseconds(value: float | None) -> Cell:
    return Cell(seconds(None if value is None else value / 1e6))


def keys(run: KeysRun) -> Grid:
    """Seconds of each step by the number of files."""
    grid = _by_files(
        run,
        "Keys: seconds by the number of files",
        "Medians of the wall clock; a program's start is included, but for the last reads. Mounts "
        f"ask the vaults every {run.probe_seconds} s. Growth is the most files relative to the "
        "fewest.",
        KeysRow.median,
        run.growth,
    )
    made = [Cell("(making the files)", tone="muted")]
    made += [Cell(seconds(row.making), tone="muted") for row in run.ordered]
    grid.rows.append([*made, Cell("")])
    return grid


def keys_cpu(run: KeysRun) -> Grid:
    """CPU seconds of each step that is a program."""
    return _by_files(
        run,
        "Keys: CPU seconds by the number of files",
        "Medians of the program's own CPU time, which other work on the machine does not lengthen.",
        KeysRow.cpu_median,
        run.cpu_growth,
    )


def _by_files(
    run: KeysRun,
    title: str,
    note: str,
    of: Callable[[KeysRow, str], float | None],
    growth: Callable[[str], float | None],
) -> Grid:
    lines = []
    for step in STEPS:
        taken = [of(row, step) for row in run.ordered]
        if any(one is not None for one in taken):
            cells = [Cell(seconds(one)) for one in taken]
            lines.append([Cell(step), *cells, Cell(ratio(growth(step)), strong=True)])
    header = ["step", *(f"{row.files:,} files" for row in run.ordered), "growth"]
    return Grid(title=title, note=note, header=header, rows=lines)


def hot_path(run: HotPathRun) -> Grid:
    """Cost of each part by chunk size."""
    header = [f"{row.chunk_size >> 10} KiB" for row in run.rows]
    return Grid(
        title="Hot path: microseconds for each MiB, by chunk size",
        note=(
            "Medians, with the speed as a percentage of AES-256-GCM called in a loop on the same "
            "buffers, and ± (slowest - fastest) / median."
        ),
        header=["part", *header],
        rows=[
            [Cell(part), *(Cell(_part(run, part, at)) for at in range(len(run.rows)))]
            for part in PARTS
            if all(part in row.microseconds for row in run.rows)
        ],
    )


def _part(run: HotPathRun, part: str, at: int) -> str:
    row = run.rows[at]
    text = f"{ratio(row.median(part))} ± {percent(row.spread(part))}"
    return f"{text} ({percent(row.share(part))})" if part in RAW else text


def operations(run: OperationsRun) -> Grid:
    """CPU time of each operation in process."""
    return Grid(
        title="Operations: CPU time in process, without a transport",
        note=(
            f"Medians of {run.repetitions} interleaved repetitions on a tmpfs. The reference is "
            "open, write 4 KiB, fstat, close of a plain new file."
        ),
        header=["operation", "µs", "least", "spread", "times the reference"],
        rows=[
            [
                Cell(row.operation),
                Cell(ratio(row.microseconds)),
                Cell(ratio(row.least)),
                Cell(ratio(row.spread)),
                Cell(ratio(row.times_reference)),
            ]
            for row in run.rows
        ],
    )


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


def steps() -> Grid:
    """What each step of `bench keys` is."""
    return _explained("Steps", "step", STEPS)


def parts() -> Grid:
    """What each part of the hot path is."""
    return _explained("Parts", "part", PARTS)


def _explained(title: str, what: str, texts: dict[str, str]) -> Grid:
    return Grid(
        title=title,
        header=[what, "what is measured"],
        rows=[[Cell(name), Cell(text.replace("`", ""))] for name, text in texts.items()],
        words=2,
    )


def flatness(run: KeysRun) -> str:
    """Whether a step costs more with more files, in a sentence."""
    said = [
        text
        for what, growth in (("CPU time", run.cpu_growth), ("elapsed time", run.growth))
        if (text := _grown(what, growth))
    ]
    if not said:
        return "One number of files alone says nothing about growth."
    ordered = run.ordered
    return f"From {ordered[0].files:,} to {ordered[-1].files:,} files {'; '.join(said)}."


def _grown(what: str, growth: Callable[[str], float | None]) -> str:
    growths = {step: one for step in FLAT if (one := growth(step)) is not None}
    if not growths:
        return ""
    most = max(growths, key=lambda step: growths[step])
    return (
        f"{what} grew at most {ratio(growths[most])} times (`{most}`), in the middle "
        f"{ratio(median(growths.values()))} times"
    )


def revocation(run: KeysRun) -> str:
    """How long reads went on, in a sentence."""
    longest = {
        step: max(taken)
        for step in LAST_READS
        if (taken := [one for row in run.rows for one in row.seconds.get(step, [])])
    }
    said = "; ".join(f"{step}: at most {seconds(most)}" for step, most in longest.items())
    return f"{said[0].upper()}{said[1:]}." if said else "No revocation was measured."
