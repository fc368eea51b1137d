"""`ckfs-keys`: look at the keys of a store and work on them. Parses, calls, prints, exits.

Exit codes are stable; 10 to 17 mean the same for `ckfs`. EXIT_CODES below is the one table of them.
Every error is one line on standard error. What the verbs do is in the modules they call.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from keyhierarchy import display, errors, statedir
from keyhierarchy.storeid import find_store

if TYPE_CHECKING:
    from keyhierarchy.audit import AuditLog, Record

PROGRAM = "ckfs-keys"
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
# The first class that fits counts, so that a subclass stands before its parent.
EXIT_CODES: tuple[tuple[type[errors.KeyHierarchyError], int], ...] = (
    (errors.NotAStore, 10),
    (errors.KeystoreNewer, 11),
    (errors.KeystoreInvalid, 12),
    (errors.KeystoreMissing, 12),
    (errors.WrappedKeyInvalid, 12),
    (errors.AnchorMismatch, 12),
    (errors.AuditChainBroken, 12),
    (errors.RootKeyMissing, 13),
    (errors.RootKeyUnavailable, 14),
    (errors.StorageUnavailable, 14),
    (errors.RootKeyRefused, 15),
    (errors.PolicyPurged, 15),
    (errors.UnsafePermissions, 16),
    (errors.KeystoreBusy, 17),
    (errors.TransitionRefused, 30),
)
_DUMPABLE = 4  # PR_SET_DUMPABLE of prctl(2)

_EXITS = """Exit codes: 0 done, 1 unexpected, 2 usage, 10 not a store, 11 made by a newer version,
12 store, anchor or audit log damaged or forged, 13 root key missing, 14 root key or disk does not
answer now, 15 root key refused or revoked, 16 permissions, 17 busy, 30 refused in this state."""

app = typer.Typer(
    name=PROGRAM,
    help=f"Look at the keys of a store and work on them.\n\n{_EXITS}",
    rich_markup_mode=None,  # plain text: it is quicker, and a pipe gets what a terminal gets
    pretty_exceptions_enable=False,  # they would print the locals of frames that hold keys
    no_args_is_help=True,
)
audit_app = typer.Typer(help="The log of every key event of a store.", no_args_is_help=True)
service_key_app = typer.Typer(
    help="The service-managed root keys of this host.", no_args_is_help=True
)
app.add_typer(audit_app, name="audit")
app.add_typer(service_key_app, name="service-key")

StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="Folder with the ciphertext.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - rarely asked

        try:
            typer.echo(f"{PROGRAM} {version('ckfs')}")
        except PackageNotFoundError:
            typer.echo(f"{PROGRAM} of a checkout that is not installed")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    state_dir: Annotated[
        str | None,
        typer.Option(
            "--state-dir",
            metavar="DIR",
            envvar=statedir.ENVIRONMENT,
            help="What this host keeps outside stores: service keys, anchors, audit logs. "
            "Default: /var/lib/ckfs for root, else $XDG_DATA_HOME/ckfs or ~/.local/share/ckfs.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    del version  # its callback has done the work
    context.obj = os.path.abspath(state_dir) if state_dir else statedir.default_state_dir()


@app.command()
def status(context: typer.Context, store: StoreArgument, as_json: JsonOption = False) -> None:
    """Show policies, root keys, sites and whether their keys can be opened now.

    Asks each root key, as a mount does, and is recorded in the audit log like one.

    Example: ckfs-keys status ~/store

    Example: ckfs-keys status --json ~/store | jq '.policies[].opens'
    """
    from keyhierarchy.status import gather  # noqa: PLC0415 - `--help` must stay quick

    control_folder, store_id = find_store(store)
    facts, trouble = gather(control_folder, context.obj, store_id)
    if as_json:
        display.print_json(facts)
    else:
        display.print_status(facts)
    if trouble is not None:
        raise trouble


@app.command()
def rewrap(context: typer.Context, store: StoreArgument, as_json: JsonOption = False) -> None:
    """Move a store to the current service-managed root key, after `service-key roll`.

    No file is touched, and mounts go on. Run it for every store before an archived key is put away.

    Example: ckfs-keys rewrap ~/store
    """
    from keyhierarchy.servicekeys import rewrap_store  # noqa: PLC0415 - `--help` must stay quick

    control_folder, store_id = find_store(store)
    moved = rewrap_store(control_folder, context.obj, store_id)
    if as_json:
        display.print_json({"rewrapped": [step._asdict() for step in moved]})
    elif not moved:
        typer.echo("nothing to do: all service-managed wraps are under the current root key")
    else:
        for step in moved:
            typer.echo(
                f"policy {step.policy_id} generation {step.generation}: "
                f"{step.old_key_id} -> {step.new_key_id}"
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


def exit_code(error: errors.KeyHierarchyError) -> int:
    """Return the exit code of an error of this package."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), EXIT_UNEXPECTED)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit. The one place that turns errors into lines and codes."""
    _forbid_core_dumps()
    try:
        code = app(arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except errors.KeyHierarchyError as error:
        code = _complain(str(error), exit_code(error))
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; nothing may be written at exit any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_UNEXPECTED
    except Exception as error:  # noqa: BLE001 - a traceback is no answer to an administrator
        code = _foreign(error)
    sys.exit(code if isinstance(code, int) else 0)


def _foreign(error: Exception) -> int:
    """Tell of an error that is not this package's: wrong usage by typer, or a defect of ours."""
    message = getattr(error, "format_message", None)
    if message is None:
        if os.environ.get("CKFS_DEBUG"):
            raise error
        told = f"unexpected: {type(error).__name__}: {error}; please report it, with CKFS_DEBUG=1"
        return _complain(told, EXIT_UNEXPECTED)
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
        typer.echo(message(), err=True)
        return EXIT_USAGE
    return _complain(f"{message()} Try: {PROGRAM} --help", EXIT_USAGE)


def _complain(text: str, code: int) -> int:
    typer.echo(f"{PROGRAM}: {display.shown(text)}", err=True)
    return code


def _forbid_core_dumps() -> None:
    """Keep keys out of core dumps, and other processes of this account from reading memory."""
    import ctypes  # noqa: PLC0415 - only a program that runs needs it
    import resource  # noqa: PLC0415

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_DUMPABLE, 0, 0, 0, 0)


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


if __name__ == "__main__":
    main()
