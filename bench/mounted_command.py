"""The command lines of `mounted` and `scale`: what is asked for, and who says what came out."""

import dataclasses
from pathlib import Path
from typing import NoReturn

import typer
from rich.console import Console
from rich.table import Table

from bench import peers
from bench.figures import Run, Where, save
from bench.mounted import Plan, Refused, measure
from bench.mounted_place import PlaceRefused
from bench.workloads.groups import QUICK, Sizes

_PLACES: dict[str, tuple[Where, ...]] = {
    "tmpfs": ("tmpfs",),
    "disk": ("disk",),
    "both": ("tmpfs", "disk"),
}


def run(
    *,
    where: str,
    rows: tuple[str, ...],
    systems: tuple[str, ...],
    repetitions: int | None,
    quick: bool,
    size: int | None,
    disk_folder: Path | None,
    ckfs_options: tuple[str, ...],
    json_file: Path | None,
) -> None:
    """Measure, write, report; ends the program with 1 if the run was refused or interrupted."""
    if where not in _PLACES:
        _refuse(f"--where is tmpfs, disk or both, not {where!r}")
    sizes = QUICK if quick else Sizes()
    if size is not None:
        sizes = dataclasses.replace(sizes, sequential=size << 20)
    plan = Plan(
        where=_PLACES[where],
        rows=rows,
        systems=systems or (peers.QUICK_NAMES if quick else peers.NAMES),
        repetitions=repetitions or (2 if quick else 5),
        quick=quick,
        sizes=sizes,
        disk_folder=disk_folder,
        ckfs_options=ckfs_options,
        time_cap=40.0 if quick else 120.0,
    )
    try:
        runs = measure(plan)
    except (Refused, PlaceRefused) as error:
        _refuse(str(error))
    finish(runs, json_file)


def finish(runs: list[Run], json_file: Path | None) -> None:
    """What every measurement ends with."""
    if json_file is not None:
        save(runs, json_file)
        print(f"figures: {json_file}")
    for one in runs:
        _show(one)
    if not all(one.complete for one in runs):
        raise typer.Exit(1)


def _show(run: Run) -> None:
    table = Table(title=f"{run.where}: milliseconds, medians of {run.repetitions}")
    table.add_column("row")
    for system in run.systems:
        table.add_column(system.name, justify="right")
    for row in run.rows:
        cells = []
        for system in run.systems:
            found = [one for one in row.samples if one.system == system.name]
            middle = found[0].median if found else None
            cells.append("-" if middle is None else f"{middle * 1e3:.1f}")
        table.add_row(f"{row.name}{' (cold)' if row.temperature == 'cold' else ''}", *cells)
    Console().print(table)


def _refuse(text: str) -> NoReturn:
    print(f"bench: {text}")
    raise typer.Exit(2)
