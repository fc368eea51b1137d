"""A report as sections, each with what was measured, its tables and its plots."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from bench import report_tables as tables
from bench import report_tables_inside as inside
from bench.figures import Machine, Run
from bench.hot_path_figures import HotPathRun
from bench.keys_figures import KeysRun
from bench.operations_figures import OperationsRun
from bench.report_files import Document
from bench.report_grid import Grid
from bench.report_ratios import Verdicts, judge


class Plot(msgspec.Struct, frozen=True):
    """A plot still to be drawn, for one theme at a time."""

    name: str
    """Of the file, without an ending."""
    text: str
    """For who cannot see it."""
    draw: Callable[[str], bytes]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Of one run."""

    title: str
    facts: list[str]
    """Sentences: what is claimed first, then what it holds for."""
    tables: list[Grid]
    details: list[Grid]
    """For who wants to look closer; not in RESULTS.md."""
    plots: list[Plot]
    machine_readable: object


def sections(documents: list[Document]) -> list[Section]:
    """In the order of the documents. ValueError for a run without ours."""
    return [_section(one, f"{at + 1}") for at, one in enumerate(documents)]


def _section(document: Document, mark: str) -> Section:
    match document:
        case Run():
            return _of_run(document, mark)
        case KeysRun():
            return _of_keys(document, mark)
        case HotPathRun():
            return _of_hot_path(document, mark)
        case OperationsRun():
            return _of_operations(document)


def _title(command: str, date: str, commit: str) -> str:
    return f"{date or 'undated'}, {commit or 'unknown'}, `python -m bench {command}`"


def machine_words(machine: Machine | None) -> str:
    """One sentence."""
    if machine is None:
        return "Machine not on record."
    return (
        f"{machine.cores} cores of {machine.cpu}, {machine.memory / (1 << 30):.0f} GiB, Linux "
        f"{machine.kernel}, CPython {machine.python}, load {machine.load} at the start."
    )


def _of_run(run: Run, mark: str) -> Section:
    verdicts = judge(run)
    found = [tables.ratios(verdicts)] if verdicts.rows else []
    if verdicts.curves:
        found.append(tables.curves(verdicts.curves, [one.name for one in run.systems]))
    failed = tables.failures(verdicts)
    return Section(
        title=f"{_title(run.bench, run.date, run.commit)} on {run.where}",
        facts=[
            tables.headline(run, verdicts),
            f"{run.place}; {run.repetitions} repetitions, the systems in turns.",
            f"Durability of {verdicts.ours}: {run.durability}",
            machine_words(run.machine),
        ],
        tables=[*found, *([failed] if failed else [])],
        details=[tables.medians(run), tables.cpu(run), tables.systems(run), tables.workloads(run)],
        plots=list(_run_plots(run, verdicts, mark)),
        machine_readable={
            "bench": run.bench,
            "date": run.date,
            "commit": run.commit,
            "machine": run.machine,
            "where": run.where,
            "durability": run.durability,
            "quick": run.quick,
            "complete": run.complete,
            "won": verdicts.won,
            "contested": verdicts.contested,
            "verdicts": verdicts,
        },
    )


def _run_plots(run: Run, verdicts: Verdicts, mark: str) -> Iterator[Plot]:
    if verdicts.rows:
        yield Plot(
            f"{mark}-ratios",
            "Ratios for each row; the table below has the same figures.",
            lambda theme: _plots().ratios(run, verdicts, theme),
        )
        yield Plot(
            f"{mark}-throughput",
            "Rates of every system for each row.",
            lambda theme: _plots().throughput(run, verdicts, theme),
        )
    if verdicts.curves:
        yield Plot(
            f"{mark}-scale",
            "Time for each file by the number of files; the tables have the same figures.",
            lambda theme: _plots().scale(run, verdicts.curves, theme),
        )


def _of_keys(run: KeysRun, mark: str) -> Section:
    return Section(
        title=_title(run.bench, run.date, run.commit),
        facts=[
            inside.flatness(run),
            inside.revocation(run),
            f"{run.place}.",
            machine_words(run.machine),
        ],
        tables=[
            inside.keys(run),
            *([inside.keys_cpu(run)] if any(row.cpu for row in run.rows) else []),
        ],
        details=[inside.steps()],
        plots=[
            Plot(
                f"{mark}-keys",
                "Seconds of each step by the number of files; the table has the same figures.",
                lambda theme: _plots().keys(run, theme),
            )
        ],
        machine_readable=run,
    )


def _of_hot_path(run: HotPathRun, mark: str) -> Section:
    return Section(
        title=_title(run.bench, run.date, run.commit),
        facts=[
            f"{run.place}; requests of {run.request >> 10} KiB, {run.rounds} rounds, CPU time.",
            machine_words(run.machine),
        ],
        tables=[inside.hot_path(run)],
        details=[inside.parts()],
        plots=[
            Plot(
                f"{mark}-hot-path",
                "Percent of raw AES-256-GCM by chunk size; the table has the same figures.",
                lambda theme: _plots().hot_path(run, theme),
            )
        ],
        machine_readable=run,
    )


def _of_operations(run: OperationsRun) -> Section:
    return Section(
        title=_title(run.bench, run.date, run.commit),
        facts=[machine_words(run.machine)],
        tables=[inside.operations(run)],
        details=[],
        plots=[],
        machine_readable=run,
    )


def _plots() -> Any:
    # Only who draws needs matplotlib.
    from bench import plots  # noqa: PLC0415

    return plots
