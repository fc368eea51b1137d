"""The command lines of `mounted` and `scale`: what is asked for, and who says what came out."""

import dataclasses
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console

from bench import peers, report, scale_memory
from bench.figures import Run, Where, save
from bench.mounted import Plan, Refused, measure
from bench.mounted_place import PlaceRefused
from bench.report_grid import table
from bench.report_tables import medians
from bench.workloads import scaling
from bench.workloads.groups import QUICK, Sizes

_PLACES: dict[str, tuple[Where, ...]] = {
    "tmpfs": ("tmpfs",),
    "disk": ("disk",),
    "both": ("tmpfs", "disk"),
}

WhereOption = Annotated[
    str, typer.Option("--where", help="tmpfs (the driver's own cost), disk or both.")
]
RowsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rows",
        metavar="NAME,...",
        help="Groups (sequential, random, small, tree, git, sqlite, fio) or rows. Default: all.",
    ),
]
SystemsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--systems",
        metavar="NAME,...",
        help=f"{', '.join(peers.NAMES)}. Default: all; with --quick and in scale the fastest.",
    ),
]
RepeatOption = Annotated[
    int | None, typer.Option("--repeat", min=1, help="Default: 5; with --quick 2; scale 3.")
]
QuickOption = Annotated[
    bool, typer.Option("--quick", help="Small sizes, a few minutes: for a look, not for a claim.")
]
SizeOption = Annotated[
    int | None, typer.Option("--size", min=8, help="MiB of the large file. Default: 1024.")
]
CapOption = Annotated[
    float | None,
    typer.Option(
        "--cap",
        min=1,
        help="Seconds for one workload of one system, which has failed then; all repetitions of a "
        "group get a little more. Default: 120; with --quick 40; scale 300.",
    ),
]
DiskFolderOption = Annotated[
    Path | None,
    typer.Option(
        "--disk-folder", help="Where the disk's image lies. Default: the temporary folder."
    ),
]
CkfsOption = Annotated[
    list[str] | None,
    typer.Option("--ckfs-option", metavar="OPT", help="For `ckfs mount -o`; the report says so."),
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")
]
ToOption = Annotated[
    Path | None, typer.Option("--to", metavar="DIR", help="Write the report with its plots there.")
]
AppendOption = Annotated[bool, typer.Option("--append", help="Append it to bench/RESULTS.md.")]
FilesOption = Annotated[
    list[int] | None,
    typer.Option("--files", min=1, help="How many; repeatable. Default: 1000, 10000, 100000."),
]


class Asked(msgspec.Struct, kw_only=True):
    """What both commands take."""

    where: str
    systems: list[str] | None
    repeat: int | None
    cap: float | None
    disk_folder: Path | None
    ckfs_option: list[str] | None
    json_file: Path | None
    to: Path | None
    append: bool


def mounted(asked: Asked, *, rows: list[str] | None, quick: bool, size: int | None) -> None:
    """Measure, write, report; ends the program with 2 if refused, with 1 if interrupted."""
    sizes = QUICK if quick else Sizes()
    if size is not None:
        sizes = dataclasses.replace(sizes, sequential=size << 20)
    plan = _plan(asked, peers.QUICK_NAMES if quick else peers.NAMES)
    plan.rows, plan.sizes, plan.quick = _words(rows), sizes, quick
    plan.repetitions = asked.repeat or (2 if quick else 5)
    plan.time_cap = asked.cap or (40.0 if quick else 120.0)
    plan.group_cap = plan.time_cap * 1.25
    _measure(plan, asked)


def scale(asked: Asked, *, files: list[int] | None) -> None:
    """Likewise, of trees that grow."""
    plan = _plan(asked, peers.QUICK_NAMES)
    plan.bench, plan.groups = "scale", scaling.groups(tuple(sorted(files or scaling.COUNTS)))
    plan.repetitions = asked.repeat or 3
    plan.time_cap = asked.cap or 300.0
    plan.group_cap = plan.time_cap * 1.25
    _measure(plan, asked)


def _plan(asked: Asked, systems: tuple[str, ...]) -> Plan:
    if asked.where not in _PLACES:
        _refuse(f"--where is tmpfs, disk or both, not {asked.where!r}")
    return Plan(
        where=_PLACES[asked.where],
        systems=_words(asked.systems) or systems,
        disk_folder=asked.disk_folder,
        ckfs_options=_words(asked.ckfs_option),
    )


def _words(given: list[str] | None) -> tuple[str, ...]:
    """Of an option that may be repeated, or name several with commas."""
    return tuple(part.strip() for word in given or [] for part in word.split(",") if part.strip())


def _measure(plan: Plan, asked: Asked) -> None:
    try:
        runs = measure(plan)
    except (Refused, PlaceRefused) as error:
        _refuse(str(error))
    if asked.json_file is not None:
        save(runs, asked.json_file)
        plan.console.print(f"figures: {asked.json_file}")
    _present(runs, asked)
    if not all(one.complete for one in runs):
        raise typer.Exit(1)


def _present(runs: list[Run], asked: Asked) -> None:
    """The report compares with ours; a run without ours is a plain table."""
    with_ours = [run for run in runs if any(one.kind == "ours" for one in run.systems)]
    for run in runs:
        if run not in with_ours:
            Console().print(table(medians(run)))
    if with_ours:
        report.present([*with_ours], to=asked.to, append=asked.append)
    for run in runs:
        grid = scale_memory.touched(run)
        if grid is not None:
            Console().print(table(grid))


def _refuse(text: str) -> NoReturn:
    print(f"bench: {text}")
    raise typer.Exit(2)
