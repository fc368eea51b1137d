"""`ckfs-keys audit` and `ckfs-keys service-key`: the log, and this host's own root keys."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from keyhierarchy import display, statedir
from keyhierarchy.cli_common import JsonOption  # noqa: TC001 - typer reads it when it runs
from keyhierarchy.storeid import find_store

if TYPE_CHECKING:
    from keyhierarchy.audit import AuditLog, Record

PROGRAM = "ckfs-keys"
audit_app = typer.Typer(help="The log of every key event of a store.", no_args_is_help=True)
service_key_app = typer.Typer(
    help="The service-managed root keys of this host.", no_args_is_help=True
)


@audit_app.command("show")
def audit_show(
    context: typer.Context,
    store: Annotated[
        str | None, typer.Argument(metavar="STORE", help="Folder with the ciphertext.")
    ] = None,
    service_keys: Annotated[
        bool, typer.Option("--service-keys", help="The log of the service-managed root keys.")
    ] = False,
    last: Annotated[
        int | None, typer.Option("--last", min=1, metavar="N", help="Only the newest N records.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the records as JSON, one on a line.")
    ] = False,
) -> None:
    """Show the audit log: when, who, what, on which key, with what outcome.

    Example: ckfs-keys audit show --last 20 ~/store

    Example: ckfs-keys audit show --json ~/store | jq 'select(.outcome != "ok")'

    Example: ckfs-keys audit show --service-keys
    """
    log = _log(context, store, service_keys=service_keys)
    records: deque[Record | None] = deque(log.records(), maxlen=last)
    for record in records:
        if record is None:
            typer.echo(f"{PROGRAM}: a damaged line; run: {PROGRAM} audit verify", err=True)
        else:
            typer.echo(display.json_line(record) if as_json else display.record_line(record))
    if not records:
        typer.echo(f"{PROGRAM}: no records yet in {display.shown(log.path)}", err=True)


@audit_app.command("verify")
def audit_verify(
    context: typer.Context,
    store: Annotated[
        str | None, typer.Argument(metavar="STORE", help="Folder with the ciphertext.")
    ] = None,
    service_keys: Annotated[
        bool, typer.Option("--service-keys", help="The log of the service-managed root keys.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that no record was changed, taken out or cut off. Exit code 12 if one was.

    Example: ckfs-keys audit verify ~/store
    """
    log = _log(context, store, service_keys=service_keys)
    found = log.verify()
    if as_json:
        display.print_json({"path": log.path, **msgspec.to_builtins(found)})
        return
    typer.echo(
        f"{display.shown(log.path)}: {found.count} records, unbroken; last hash {found.hash}"
    )
    if found.recovered:
        typer.echo(f"{found.recovered} times a crash cut a record off, and the log says so")
    if found.torn:
        typer.echo("a crash has cut the last record off; the next record will say so")


@audit_app.command("restart")
def audit_restart(
    context: typer.Context,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; it becomes part of the first new record.")
    ],
    store: Annotated[
        str | None, typer.Argument(metavar="STORE", help="Folder with the ciphertext.")
    ] = None,
    service_keys: Annotated[
        bool, typer.Option("--service-keys", help="The log of the service-managed root keys.")
    ] = False,
) -> None:
    """Begin a new audit log where the old one is broken or lost; the old one is kept aside.

    The first record of the new log says so, and how far the old one was known to reach.

    Example: ckfs-keys audit restart --reason "disk failed, ticket 4711" ~/store
    """
    log = _log(context, store, service_keys=service_keys, must_exist=False)
    record, aside = log.restart(reason)
    typer.echo(f"{display.shown(log.path)}: begun again with record {record.seq}")
    if aside is not None:
        typer.echo(f"the old log is kept as {display.shown(aside)}")


@service_key_app.command("list")
def service_key_list(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the service-managed root keys of this host, the current one last.

    Example: ckfs-keys service-key list
    """
    from keyhierarchy.servicekeys import service_keys  # noqa: PLC0415 - `--help` must stay quick

    keys = service_keys(context.obj)
    current = keys.current()
    listed = [
        {
            "key_id": key.key_id,
            "sequence": key.sequence,
            "created": key.created,
            "state": "current" if key.id == current.id else "archived",
        }
        for key in keys.masters()
    ]
    if as_json:
        display.print_json({"folder": keys.folder, "keys": listed})
        return
    for key in listed:
        typer.echo(f"{key['key_id']}  {key['created']}  {key['state']}")


@service_key_app.command("roll")
def service_key_roll(context: typer.Context, as_json: JsonOption = False) -> None:
    """Make a new service-managed root key; the old one is archived and goes on opening its wraps.

    Then run `ckfs-keys rewrap STORE` for each store, and back the state folder up.

    Example: ckfs-keys service-key roll
    """
    from keyhierarchy.servicekeys import roll_service_key  # noqa: PLC0415 - `--help` stays quick

    new, old = roll_service_key(context.obj)
    if as_json:
        display.print_json({"current": new.key_id, "archived": old.key_id})
        return
    typer.echo(f"current:  {new.key_id}\narchived: {old.key_id}")
    typer.echo(f"now run: {PROGRAM} rewrap STORE, for each store; and back up the state folder")


def _log(
    context: typer.Context, store: str | None, *, service_keys: bool, must_exist: bool = True
) -> AuditLog:
    """Return the log that was asked for: of a store, or of the service keys."""
    from keyhierarchy import anchor, opening, servicekeys  # noqa: PLC0415 - `--help` stays quick
    from keyhierarchy.audit import AuditLog  # noqa: PLC0415

    if service_keys == (store is not None):
        raise typer.BadParameter("name either a STORE or --service-keys.")
    if store is None:
        return servicekeys.service_key_log(context.obj)
    _, store_id = find_store(store)
    folder = statedir.store_folder(context.obj, store_id)
    log = AuditLog(folder, store_id)
    if must_exist:
        opening.require_log(anchor.AnchorFile(folder).load(), log)
    return log
