"""`python -m bench hot-path`: which measurement to run."""

from typing import Annotated

import typer

from bench import hot_path, keys, operations

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


app()
