"""`ckfs-keys` restore, revoke, offboard, resume, backup, restore-backup, keys usage."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from keyhierarchy import cli_common as common
from keyhierarchy import display
from keyhierarchy.cli_common import (  # noqa: TC001 - typer reads them when it runs
    AcceptOption,
    DryRunOption,
    JsonOption,
    PolicyOption,
    PrimaryKey,
    PrimaryUri,
    PrimaryVault,
    PrimaryVersion,
    SecondaryKey,
    SecondaryUri,
    SecondaryVault,
    SecondaryVersion,
    StoreArgument,
    YesOption,
)

keys_app = typer.Typer(help="Root key versions that a store needs.", no_args_is_help=True)
app = typer.Typer()

ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; it goes into the audit log.")
]


@app.command()
def restore(
    context: typer.Context,
    store: StoreArgument,
    *,
    reason: ReasonOption,
    primary_uri: PrimaryUri = None,
    secondary_uri: SecondaryUri = None,
    primary_vault: PrimaryVault = None,
    primary_key: PrimaryKey = None,
    primary_version: PrimaryVersion = None,
    secondary_vault: SecondaryVault = None,
    secondary_key: SecondaryKey = None,
    secondary_version: SecondaryVersion = None,
    policy: PolicyOption = None,
    accept: AcceptOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Both vaults are lost: open the keys by the availability key and register two new ones.

    Example: ckfs-keys restore ~/store --reason "both vaults deleted, ticket 4711" --primary-uri
    https://contoso3.vault.azure.net/keys/root/0123456789abcdef0123456789abcdef --secondary-uri
    https://contoso4.vault.azure.net/keys/root/0123456789abcdef0123456789abcdef
    """
    from keyhierarchy.lifecycle import register  # noqa: PLC0415

    primary = common.named_key("primary", primary_uri, primary_vault, primary_key, primary_version)
    secondary = common.named_key(
        "secondary", secondary_uri, secondary_vault, secondary_key, secondary_version
    )
    common.confirm(
        f"Use the availability key of {store}, and give the policy two new customer keys?",
        yes=yes,
        dry_run=dry_run,
    )
    with common.Progress() as progress:
        outcome = register.restore(
            common.store_of(context, store),
            common.rooms_of(context, store),
            primary=primary,
            secondary=secondary,
            reason=reason,
            policy=policy,
            accept=accept or [],
            dry_run=dry_run,
            watch=progress.watch(),
        )
    common.print_outcome(outcome, as_json=as_json)


@app.command()
def revoke(
    context: typer.Context,
    store: StoreArgument,
    *,
    reason: ReasonOption = "",
    undo: Annotated[bool, typer.Option("--undo", help="Give access back.")] = False,
    policy: PolicyOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Close a policy at once: this host's mounts stop reading it, others at their next renewal.

    Example: ckfs-keys revoke ~/store --reason "laptop stolen"

    Example: ckfs-keys revoke --undo ~/store
    """
    from keyhierarchy.lifecycle import marks  # noqa: PLC0415

    if not undo and not reason:
        raise typer.BadParameter("say why with --reason.")
    what = "Give access back" if undo else "Close the policy: every open file of it stops"
    common.confirm(f"{what}?", yes=yes, dry_run=dry_run)
    place, rooms = common.store_of(context, store), common.rooms_of(context, store)
    if undo:
        outcome = marks.undo_revoke(place, rooms, policy=policy, dry_run=dry_run)
    else:
        outcome = marks.revoke(place, rooms, reason=reason, policy=policy, dry_run=dry_run)
    common.print_outcome(outcome, as_json=as_json)


@app.command()
def offboard(
    context: typer.Context,
    store: StoreArgument,
    *,
    policy: PolicyOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go back to the service-managed root. A customer key must still work, and is then let go.

    Example: ckfs-keys offboard ~/store --dry-run
    """
    from keyhierarchy.lifecycle import register  # noqa: PLC0415

    common.confirm(
        f"Put {store} back under the service-managed root of this host?", yes=yes, dry_run=dry_run
    )
    with common.Progress() as progress:
        outcome = register.offboard(
            common.store_of(context, store),
            common.rooms_of(context, store),
            policy=policy,
            dry_run=dry_run,
            watch=progress.watch(),
        )
    common.print_outcome(outcome, as_json=as_json)


@app.command()
def resume(
    context: typer.Context,
    store: StoreArgument,
    *,
    policy: PolicyOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Finish a change that was cut short.

    Example: ckfs-keys resume ~/store
    """
    from keyhierarchy.lifecycle import resuming  # noqa: PLC0415

    with common.Progress() as progress:
        outcomes = resuming.resume(
            common.store_of(context, store),
            common.rooms_of(context, store),
            policy=policy,
            dry_run=dry_run,
            watch=progress.watch(),
        )
    if as_json:
        display.print_json({"resumed": [msgspec.to_builtins(one) for one in outcomes]})
        return
    for outcome in outcomes:
        common.print_outcome(outcome, as_json=False)
    if not outcomes:
        typer.echo("nothing to resume")


@app.command()
def backup(
    context: typer.Context,
    store: StoreArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A new file, outside the store.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Write a backup of the keystore, and say which root key versions it needs.

    Example: ckfs-keys backup ~/store /media/offline/store-keys.json
    """
    from keyhierarchy.lifecycle import backups  # noqa: PLC0415

    facts = backups.back_up(common.store_of(context, store), file)
    if as_json:
        display.print_json(facts)
        return
    typer.echo(
        f"{display.shown(facts['path'])}: keystore generation {facts['keystore_generation']}"
    )
    for need in facts["needs"]:
        typer.echo(f"  needs {need}")
    typer.echo("one key for each policy opens it; keep those versions as long as the backup")


@app.command("restore-backup")
def restore_backup(
    context: typer.Context,
    store: StoreArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A backup of this store's keys.")],
    *,
    accept_older: Annotated[
        bool, typer.Option("--accept-older", help="Give up keys that were made after it.")
    ] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put a backup of the keystore back, after a root key has opened it.

    Example: ckfs-keys restore-backup ~/store /media/offline/store-keys.json
    """
    from keyhierarchy.lifecycle import backups  # noqa: PLC0415

    common.confirm(f"Replace the keystore of {store} by {file}?", yes=yes, dry_run=dry_run)
    facts = backups.put_back(
        common.store_of(context, store),
        common.rooms_of(context, store),
        file,
        accept_older=accept_older,
        dry_run=dry_run,
    )
    if as_json:
        display.print_json(facts)
    else:
        done = "would be" if dry_run else "is"
        typer.echo(f"the keystore {done} generation {facts['keystore_generation']} of {file}")


@keys_app.command("usage")
def keys_usage(context: typer.Context, store: StoreArgument, as_json: JsonOption = False) -> None:
    """List every root key version the store ever named, its last use, and if it may be disabled.

    Example: ckfs-keys keys usage ~/store --json | jq '.keys[] | select(.may_disable)'
    """
    from keyhierarchy.lifecycle import usage  # noqa: PLC0415

    entries = usage.usage(common.store_of(context, store))
    if as_json:
        display.print_json({"keys": entries})
        return
    for entry in entries:
        may = "may be disabled" if entry["may_disable"] else "NEEDED"
        typer.echo(
            display.shown(
                f"{entry['policy']} {entry['slot']} {entry['key_id']}: {may}; {entry['why']}; "
                f"last use {entry['last_use'] or 'not recorded'}"
            )
        )
