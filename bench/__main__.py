"""`python -m bench COMMAND`: which measurement to run, and the report of what it measured."""

from pathlib import Path
from typing import Annotated

import typer

from bench import hot_path, keys, mounted_command, operations, report
from bench.operations_list import OPERATIONS

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _main() -> None:
    """Measure ckfs: ratios of one run, medians over alternated rounds."""


@app.command(
    "hot-path",
    epilog="Examples:  python -m bench hot-path    python -m bench hot-path --json hot-path.json",
)
def _hot_path(
    folder: Annotated[
        Path | None, typer.Option(help="Where the store lies; default: /dev/shm.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Alternated rounds of each part.")] = 9,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures there.")
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Append it to bench/RESULTS.md.")
    ] = False,
) -> None:
    """In process, no mount: geometry, seal, chunks and backing file, beside raw AES-256-GCM."""
    hot_path.run(folder, rounds=rounds, json_file=json_file, append=append)


@app.command(
    "keys",
    epilog="Examples:  python -m bench keys --json keys.json    python -m bench keys --files 10",
)
def _keys(
    files: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Number of files; repeatable. Default: 10, 1000, 100000."),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Each verb so often.")] = keys.REPETITIONS,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures there.")
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Append it to bench/RESULTS.md.")
    ] = False,
) -> None:
    """Cost of register, roll, revoke, restore and offboard, and mounting, by number of files."""
    keys.run(files or [], repetitions=repeat, json_file=json_file, append=append)


@app.command(
    "operations",
    epilog="Examples:  python -m bench operations --json > before.json"
    "    python -m bench operations --against before.json"
    "    python -m bench operations --profile create-4k",
)
def _operations(
    only: Annotated[
        list[str] | None, typer.Option(help="This operation alone; repeatable. Default: all.")
    ] = None,
    repetitions: Annotated[int, typer.Option(min=7, help="Interleaved; medians.")] = 9,
    against: Annotated[
        str | None, typer.Option(metavar="FILE", help="Compare with what --json wrote.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="OP", help="Show where one operation's time goes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """In process, no mount: CPU time of lookup, create, open, read, write, rename and the rest."""
    for name in [*(only or []), *([profile] if profile else [])]:
        if name not in OPERATIONS:
            raise typer.BadParameter(f"{name} is no operation; take one of {', '.join(OPERATIONS)}")
    if profile:
        operations.profile(profile, repetitions)
    else:
        operations.run(only or [], repetitions=repetitions, as_json=as_json, against=against)


@app.command(
    "mounted",
    epilog="Examples:  python -m bench mounted --quick    python -m bench mounted --where both "
    "--json run.json    python -m bench mounted --rows small,random --systems ckfs,gocryptfs",
)
def _mounted(  # noqa: PLR0917 options have no position
    where: mounted_command.WhereOption = "tmpfs",
    rows: mounted_command.RowsOption = None,
    systems: mounted_command.SystemsOption = None,
    repeat: mounted_command.RepeatOption = None,
    quick: mounted_command.QuickOption = False,
    size: mounted_command.SizeOption = None,
    cap: mounted_command.CapOption = None,
    disk_folder: mounted_command.DiskFolderOption = None,
    ckfs_option: mounted_command.CkfsOption = None,
    json_file: mounted_command.JsonOption = None,
    to: mounted_command.ToOption = None,
    append: mounted_command.AppendOption = False,
) -> None:
    """ckfs, its peers and a plain folder on the same work, in turns; takes root."""
    asked = mounted_command.Asked(
        where=where,
        systems=systems,
        repeat=repeat,
        cap=cap,
        disk_folder=disk_folder,
        ckfs_option=ckfs_option,
        json_file=json_file,
        to=to,
        append=append,
    )
    mounted_command.mounted(asked, rows=rows, quick=quick, size=size)


@app.command(
    "scale",
    epilog="Examples:  python -m bench scale    python -m bench scale --files 1000 --files 10000 "
    "--systems ckfs",
)
def _scale(  # noqa: PLR0917 options have no position
    files: mounted_command.FilesOption = None,
    where: mounted_command.WhereOption = "tmpfs",
    systems: mounted_command.SystemsOption = None,
    repeat: mounted_command.RepeatOption = None,
    cap: mounted_command.CapOption = None,
    disk_folder: mounted_command.DiskFolderOption = None,
    ckfs_option: mounted_command.CkfsOption = None,
    json_file: mounted_command.JsonOption = None,
    to: mounted_command.ToOption = None,
    append: mounted_command.AppendOption = False,
) -> None:
    """What one file and one mount cost when there are few or many files; takes root."""
    asked = mounted_command.Asked(
        where=where,
        systems=systems,
        repeat=repeat,
        cap=cap,
        disk_folder=disk_folder,
        ckfs_option=ckfs_option,
        json_file=json_file,
        to=to,
        append=append,
    )
    mounted_command.scale(asked, files=files)


@app.command(
    "report",
    epilog="Examples:  python -m bench report run.json keys.json --to report"
    "    python -m bench report run.json --append",
)
def _report(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What --json wrote.")],
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write report.html, report.md, report.json and plots."),
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Append it to bench/RESULTS.md.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Ratios for machines.")] = False,
) -> None:
    """Ratios of ours against each system, from the files of measurements."""
    report.run(files, to=to, append=append, as_json=as_json)


app()
