"""`ckfs-keys`: look at the keys of a store and work on them. Parses, calls, prints, exits.

Exit codes are stable; 10 to 17, 27 and 30 mean the same for `ckfs`. EXIT_CODES below is the one
table of them. Every error is one line on standard error. What the verbs do is in the modules they
call.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from keyhierarchy import (
    cli_audit,
    cli_life,
    cli_policy,
    cli_purge,
    cli_roll,
    cli_vault,
    display,
    errors,
    secrecy,
    statedir,
)
from keyhierarchy.cli_audit import PROGRAM
from keyhierarchy.cli_common import JsonOption, StoreArgument  # noqa: TC001 - for typer
from keyhierarchy.storeid import find_store

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
    (errors.StorageUnavailable, 27),
    (errors.RootKeyRefused, 15),
    (errors.PolicyPurged, 15),
    (errors.UnsafePermissions, 16),
    (errors.KeystoreBusy, 17),
    (errors.ValidationFailed, 30),
    (errors.TransitionRefused, 30),
    (errors.PurgeIncomplete, 31),
)

_EXITS = """Exit codes: 0 done, 1 unexpected, 2 usage, 10 not a store, 11 made by a newer version,
12 store, anchor or audit log damaged or forged, 13 root key missing, 14 root key does not answer
now, 15 root key refused or revoked, 16 permissions, 17 busy, 27 the disk fails or is full,
30 refused in this state, 31 purged here, but a key can survive elsewhere."""

app = typer.Typer(
    name=PROGRAM,
    help=f"Look at the keys of a store and work on them.\n\n{_EXITS}",
    rich_markup_mode=None,  # plain text: it is quicker, and a pipe gets what a terminal gets
    pretty_exceptions_enable=False,  # they would print the locals of frames that hold keys
    no_args_is_help=True,
)
app.add_typer(cli_policy.app, name="policy")
app.add_typer(cli_roll.roll_app, name="roll")
app.add_typer(cli_life.app)
app.add_typer(cli_purge.app, name="purge")
app.add_typer(cli_life.keys_app, name="keys")
app.add_typer(cli_vault.app, name="vault")
app.add_typer(cli_audit.audit_app, name="audit")
app.add_typer(cli_audit.service_key_app, name="service-key")


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
    availability_dir: Annotated[
        str | None,
        typer.Option(
            "--availability-dir",
            metavar="DIR",
            envvar="CKFS_AVAILABILITY_DIR",
            help="Where availability keys are, which no mount may read. "
            "Default: beside the state folder, with -availability after its name.",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    del version  # its callback has done the work
    context.meta["availability_dir"] = availability_dir and os.path.abspath(availability_dir)
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


def exit_code(error: errors.KeyHierarchyError) -> int:
    """Return the exit code of an error of this package."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), EXIT_UNEXPECTED)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit. The one place that turns errors into lines and codes."""
    secrecy.shut()
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


if __name__ == "__main__":
    main()
