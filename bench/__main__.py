"""`python -m bench COMMAND`: which measurement to run, and the report of what it measured."""

from pathlib import Path
from typing import Annotated

import typer

from bench import hot_path, keys, mounted_command, operations, report

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _main() -> None:
    """Measure ckfs: ratios of one run, medians over alternated rounds."""


@app.command(
    "hot-path", epilog="Examples:  python -m bench hot-path    python -m bench hot-path --json"
)
def _hot_path(
    folder: Annotated[
        str | None, typer.Option(help="Where the backing file lies; default: /dev/shm.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Alternated rounds of each row.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """In process, no mount: geometry, chunks and backing file, beside raw AES-256-GCM."""
    hot_path.run(folder, rounds=rounds, as_json=as_json)


@app.command(
    "keys", epilog="Examples:  python -m bench keys    python -m bench keys --files 10 --files 1000"
)
def _keys(
    files: Annotated[
        list[int] | None, typer.Option(help="Number of files; repeatable. Default: 10, 100000.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """What registering, rolling and offboarding cost, by the number of files in the store."""
    keys.measure(files or [10, 100_000], as_json=as_json)


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
        if name not in operations.OPERATIONS:
            raise typer.BadParameter(
                f"{name} is no operation; take one of {', '.join(operations.OPERATIONS)}"
            )
    if profile:
        operations.profile(profile, repetitions)
    else:
        operations.run(only or [], repetitions=repetitions, as_json=as_json, against=against)


def _chosen(words: list[str] | None) -> tuple[str, ...]:
    """Options that may be repeated, or name several with commas."""
    return tuple(part.strip() for word in words or [] for part in word.split(",") if part.strip())


@app.command(
    "mounted",
    epilog="Examples:  python -m bench mounted --quick    python -m bench mounted --where both "
    "--json run.json    python -m bench mounted --rows small,random --systems ckfs,gocryptfs",
)
def _mounted(  # noqa: PLR0917 options have no position
    where: Annotated[
        str, typer.Option(help="tmpfs (the driver's own cost), disk or both.")
    ] = "tmpfs",
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Groups (sequential, random, small, tree, git, sqlite, fio) or rows."),
    ] = None,
    systems: Annotated[
        list[str] | None, typer.Option(help="Default: all; with --quick the fastest peers.")
    ] = None,
    repeat: Annotated[int | None, typer.Option(min=1, help="Default: 5; with --quick 2.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, about two minutes.")] = False,
    size: Annotated[
        int | None, typer.Option(min=8, help="MiB of the large file. Default: 1024.")
    ] = None,
    disk_folder: Annotated[
        Path | None,
        typer.Option(help="Where the disk's image lies. Default: the temporary folder."),
    ] = None,
    ckfs_option: Annotated[
        list[str] | None, typer.Option(help="For `ckfs mount -o`; the report names it.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures there.")
    ] = None,
) -> None:
    """ckfs, its peers and a plain folder on the same work, in turns; takes root."""
    mounted_command.run(
        where=where,
        rows=_chosen(rows),
        systems=_chosen(systems),
        repetitions=repeat,
        quick=quick,
        size=size,
        disk_folder=disk_folder,
        ckfs_options=_chosen(ckfs_option),
        json_file=json_file,
    )


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
