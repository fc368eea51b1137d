"""What the commands of `ckfs-keys` share: options, both ways to name a key, confirmation, progress.

Parses and prints; decides nothing about keys.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
import typer

from keyhierarchy import display
from keyhierarchy.storeid import find_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyhierarchy.lifecycle.outcome import Outcome
    from keyhierarchy.lifecycle.production import HostRooms
    from keyhierarchy.lifecycle.session import Store, Watch

EXIT_DECLINED = 130
_PUBLIC_VAULTS = "vault.azure.net"
_PATIENCE = 1.0  # seconds before progress is shown

StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="Folder with the ciphertext.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and say what would be done.")
]
PolicyOption = Annotated[
    str | None,
    typer.Option("--policy", metavar="NAME", help="Name or id; not needed if there is only one."),
]
AcceptOption = Annotated[
    list[str] | None,
    typer.Option("--accept", metavar="RULE", help="Go on though this rule failed; repeatable."),
]


def _key_option(which: str, part: str, metavar: str, text: str) -> Any:
    return typer.Option(f"--{which}-{part}", metavar=metavar, help=text)


PrimaryUri = Annotated[str | None, _key_option("primary", "uri", "URI", "Id with version.")]
PrimaryVault = Annotated[str | None, _key_option("primary", "vault", "NAME", "Vault or host.")]
PrimaryKey = Annotated[str | None, _key_option("primary", "key", "NAME", "Name of the key.")]
PrimaryVersion = Annotated[str | None, _key_option("primary", "version", "ID", "Its version.")]
SecondaryUri = Annotated[str | None, _key_option("secondary", "uri", "URI", "Id with version.")]
SecondaryVault = Annotated[str | None, _key_option("secondary", "vault", "NAME", "Vault or host.")]
SecondaryKey = Annotated[str | None, _key_option("secondary", "key", "NAME", "Name of the key.")]
SecondaryVersion = Annotated[str | None, _key_option("secondary", "version", "ID", "Its version.")]


def store_of(context: typer.Context, store: str) -> Store:
    """Return where a store is."""
    from keyhierarchy.lifecycle.session import Store  # noqa: PLC0415 - `--help` must stay quick

    control_folder, store_id = find_store(store)
    return Store(control_folder, context.obj, store_id)


def rooms_of(context: typer.Context, store: str) -> HostRooms:
    """Return the root keys of this host."""
    from keyhierarchy.lifecycle.production import (  # noqa: PLC0415 - `--help` must stay quick
        HostRooms,
        default_availability_dir,
    )

    given = context.meta.get("availability_dir")
    return HostRooms(context.obj, given or default_availability_dir(context.obj), store)


def named_key(
    which: str, uri: str | None, vault: str | None, key: str | None, version: str | None
) -> str | None:
    """Return a key id from either style of arguments; None where none was given."""
    parts = (vault, key, version)
    if uri is not None:
        if any(part is not None for part in parts):
            raise typer.BadParameter(
                f"name the {which} key either by its URI or by vault, name and version."
            )
        return uri
    if all(part is None for part in parts):
        return None
    if vault is None or key is None or version is None:
        raise typer.BadParameter(
            f"the {which} key needs vault, name and version, or its URI with the version."
        )
    host = vault if "." in vault else f"{vault}.{_PUBLIC_VAULTS}"
    # Customer Key writes a version as a GUID with hyphens; a vault writes it without.
    return f"https://{host}/keys/{key}/{version.replace('-', '')}"


def confirm(question: str, *, yes: bool, dry_run: bool = False) -> None:
    """Ask before something that cannot simply be undone; never without a terminal."""
    if yes or dry_run:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to confirm on; say --yes.")
    if not typer.confirm(question, err=True):
        typer.echo("nothing was changed", err=True)
        raise typer.Exit(EXIT_DECLINED)


class Progress:
    """Shows on a terminal how far a verb is, once it takes longer than a second."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._share = 0.0
        self._step = "checking"

    def watch(self) -> Watch:
        """Return what a verb reports to."""
        from keyhierarchy.lifecycle.session import Watch  # noqa: PLC0415

        return Watch(step=self._stepped, progress=self._progressed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _stepped(self, name: str) -> None:
        self._step = name
        self._show()

    def _progressed(self, share: float) -> None:
        self._share = share
        self._show()

    def _show(self) -> None:
        if time.monotonic() - self._begun < _PATIENCE or not sys.stderr.isatty():
            return
        if self._bar is None:
            from rich.console import Console  # noqa: PLC0415 - takes long to load
            from rich.progress import Progress as Bar  # noqa: PLC0415

            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._step, total=1.0)
            self._bar.start()
        self._bar.update(self._task, completed=self._share, description=self._step)


def print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Print what a verb has done."""
    if as_json:
        display.print_json(msgspec.to_builtins(outcome))
        return
    typer.echo("\n".join(display.shown(line) for line in _lines(outcome)))


def _lines(outcome: Outcome) -> Iterator[str]:
    for finding in outcome.facts.get("validation", ()):
        if finding["result"] != "ok":
            yield finding_line(finding)
    would = "would be" if outcome.dry_run else "is"
    again = ", resumed" if outcome.resumed else ""
    yield (
        f"policy {outcome.policy} ({outcome.policy_id}) was {outcome.state_before or 'not there'} "
        f"and {would} {outcome.state_after}{again}"
    )
    done = "would" if outcome.dry_run else "done:"
    yield from (f"  {done} {step}" for step in outcome.steps)
    for place in outcome.facts.get("places", ()):
        mark = "SURVIVES" if place["survives"] else "gone"
        yield f"  {mark}: {place['what']}" + (f"; {place['remedy']}" if place["remedy"] else "")
    if "certificate" in outcome.facts:
        yield f"certificate: {outcome.facts['certificate']}"


def finding_line(finding: dict[str, str]) -> str:
    """Return one finding of the validation as a line."""
    about = f" {finding['slot']} {finding['key']}" if finding["key"] else ""
    text = f"{finding['result']:4} {finding['rule']}{about}"
    return f"{text}: {finding['detail']}; {finding['remedy']}" if finding["detail"] else text
