"""The tables of what was measured without peers: keys, the hot path, operations. Pure."""

from collections.abc import Callable
from statistics import median

from bench.hot_path_figures import PARTS, RAW, HotPathRun
from bench.keys_figures import FLAT, LAST_READS, STEPS, KeysRow, KeysRun
from bench.operations_figures import OperationsRun
from bench.report_grid import Cell, Grid
from bench.report_units import percent, ratio, seconds


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
