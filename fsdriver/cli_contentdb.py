"""`ckfs contentdb`: what this host knows of a store: show, carry to another host, make anew."""

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsdriver.errors import WrongArguments

if TYPE_CHECKING:
    from fsdriver.contentdb_rebuild import Counts
    from fsdriver.contentdb_transfer import ExportOlder

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The content database: what this host knows of a store and keeps outside it, so that "
    "nothing can be deleted from the store, put back or slipped in unseen.",
)

Store = Annotated[str, typer.Argument(metavar="STORE", help="The folder with the ciphertext.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="The export.")]
StateDir = Annotated[
    str | None,
    typer.Option("--state-dir", help="Where this host keeps what it knows, as for `ckfs mount`."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")]

_DECLINED = 130
_SHOWN_PROBLEMS = 10
_PROGRESS_SECONDS = 0.5


@app.command(
    epilog="Examples:  ckfs contentdb status /srv/store    ckfs contentdb status --json ./s"
)
def status(store: Store, as_json: AsJson = False, state_dir: StateDir = None) -> None:
    """How much is known, since which commit, and whether it is all there is."""
    from fsdriver import contentdb_transfer  # noqa: PLC0415 keeps --help quick
    from fsdriver.store import load  # noqa: PLC0415

    document = load(store)
    store_id = bytes.fromhex(document.store_id)
    facts = contentdb_transfer.status(_host_folder(state_dir, store_id), store_id)
    _show(facts, as_json=as_json)


@app.command(epilog="Example:  ckfs contentdb export /srv/store /media/usb/store.ckfs-contentdb")
def export(store: Store, file: File, as_json: AsJson = False, state_dir: StateDir = None) -> None:
    """Write what this host knows into a new file that another host can import.

    Of a mounted store it is what the last checkpoint knew, a few seconds ago at most.
    """
    from fsdriver import contentdb_transfer  # noqa: PLC0415 as above
    from fsdriver.offline import OfflineStore  # noqa: PLC0415

    with OfflineStore.open(store, _state_dir(state_dir)) as opened:
        head = contentdb_transfer.export(opened, file)
    _policies, folders, entries, _objects = head.counts
    facts = {
        "file": os.path.abspath(file),
        "store_id": head.meta.store_id.hex(),
        "checkpoint": head.meta.checkpoint,
        "entries": entries,
        "folders": folders,
    }
    _show(facts, as_json=as_json)


@app.command(
    "import", epilog="Example:  ckfs contentdb import /srv/store /media/usb/store.ckfs-contentdb"
)
def import_(
    store: Store,
    file: File,
    accept_older: Annotated[
        bool, typer.Option("--accept-older", help="Also if this host knows of newer things.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    state_dir: StateDir = None,
) -> None:
    """Take over what another host knew, in place of what this one knows.

    The store must not be mounted here. Refused for another store's export, one that was not made
    with the store's keys, and one older than what this host knows.
    """
    from fsdriver import contentdb_transfer  # noqa: PLC0415 as above
    from fsdriver.offline import OfflineStore  # noqa: PLC0415
    from fsdriver.storelock import StoreLock  # noqa: PLC0415

    def accept(older: "ExportOlder") -> None:
        if not accept_older:
            raise type(older)(f"{older}; import a newer one, or say --accept-older")
        _confirm(f"{older}. What is newer here will be forgotten. Take it?", yes=yes)

    with OfflineStore.open(store, _state_dir(state_dir)) as opened:
        lock = StoreLock(opened.path, opened.host_folder, read_only=True)
        try:
            head, compared = contentdb_transfer.take_over(opened, file, accept)
        finally:
            lock.release()
    _policies, folders, entries, _objects = head.counts
    facts = {
        "store_id": head.meta.store_id.hex(),
        "state": "complete" if head.meta.complete else "learning",
        "checkpoint": head.meta.checkpoint,
        "entries": entries,
        "folders": folders,
        "compared": compared,
    }
    _show(facts, as_json=as_json)


@app.command(epilog="Example:  ckfs contentdb rebuild /srv/store")
def rebuild(
    store: Store, yes: Yes = False, as_json: AsJson = False, state_dir: StateDir = None
) -> None:
    """Make the database anew from the store, and take on trust what the store says now.

    The store must not be mounted here. Whatever was deleted from the store, put back to an older
    state or slipped in before this moment will not be noticed any more.
    """
    from fsdriver import contentdb_rebuild, contentdb_transfer  # noqa: PLC0415 as above
    from fsdriver.offline import OfflineStore  # noqa: PLC0415
    from fsdriver.storelock import StoreLock  # noqa: PLC0415

    with OfflineStore.open(store, _state_dir(state_dir)) as opened:
        lock = StoreLock(opened.path, opened.host_folder, read_only=True)
        try:
            _confirm(
                f"This takes the present state of {store} on trust: whatever was deleted from it, "
                "put back to an older state or slipped in until now will not be noticed any more. "
                "Rebuild?",
                yes=yes,
            )
            progress = _Progress()
            counts = contentdb_rebuild.rebuild(opened, progress)
            progress.end()
            known = contentdb_transfer.status(opened.host_folder, opened.store_id)
        finally:
            lock.release()
    _show_counts(known, counts, as_json=as_json)


def _show_counts(known: dict[str, Any], counts: "Counts", *, as_json: bool) -> None:
    facts: dict[str, Any] = {
        **{name: known[name] for name in ("store_id", "state", "entries", "files", "folders")},
        "symlinks": counts.symlinks,
        "other_entries": counts.others,
        "foreign": counts.foreign,
        "unreadable": counts.unreadable,
    }
    if as_json:
        facts["problems"] = [{"place": at, "reason": why} for at, why in counts.problems]
    _show(facts, as_json=as_json)
    if as_json:
        return
    for at, why in counts.problems[:_SHOWN_PROBLEMS]:
        typer.echo(f"could not be read: {at}: {why}")
    if counts.unreadable > _SHOWN_PROBLEMS:
        typer.echo(f"and {counts.unreadable - _SHOWN_PROBLEMS} more; `ckfs scrub` finds them all")


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        shown = ("yes" if value else "no") if isinstance(value, bool) else value
        typer.echo(f"{name.replace('_', ' '):{width}}  {shown}")


def _state_dir(given: str | None) -> str:
    from keyhierarchy.statedir import default_state_dir  # noqa: PLC0415 as above

    return os.path.abspath(given) if given else default_state_dir()


def _host_folder(given: str | None, store_id: bytes) -> str:
    from keyhierarchy.statedir import store_folder  # noqa: PLC0415 as above

    return store_folder(_state_dir(given), store_id)


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongArguments(f"{question} There is no terminal to answer on; say --yes")
    if not typer.confirm(question, err=True):
        typer.echo("nothing was changed", err=True)
        raise typer.Exit(_DECLINED)


class _Progress:
    """One line on a terminal, written over."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PROGRESS_SECONDS
        self._shown = False

    def __call__(self, counts: "Counts") -> None:
        if time.monotonic() < self._next or not sys.stderr.isatty():
            return
        self._next = time.monotonic() + _PROGRESS_SECONDS
        self._shown = True
        sys.stderr.write(
            f"\r{counts.folders} folders, {counts.entries} entries, {counts.unreadable} unreadable "
        )
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            sys.stderr.write("\n")
