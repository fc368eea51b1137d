"""`ckfs-keys purge`: request, approve, execute, cancel, show. Parses, calls, prints."""

from __future__ import annotations

from typing import Annotated

import typer

from keyhierarchy import cli_common as common
from keyhierarchy import display
from keyhierarchy.cli_common import (  # noqa: TC001 - typer reads them when it runs
    DryRunOption,
    JsonOption,
    PolicyOption,
    StoreArgument,
    YesOption,
)

app = typer.Typer(
    help="Destroy the keys of a policy for good: request, approval, wait, execution.",
    no_args_is_help=True,
)


@app.command()
def request(
    context: typer.Context,
    store: StoreArgument,
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")],
    contact: Annotated[str, typer.Option("--contact", metavar="TEXT", help="Whom to ask.")],
    approver: Annotated[
        str, typer.Option("--approver", metavar="ACCOUNT", help="Another account of this host.")
    ],
    policy: PolicyOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Ask for a purge. From now on nothing opens the policy; it can still be cancelled.

    Example: ckfs-keys purge request ~/store --reason "contract ended" --contact
    dpo@contoso.example --approver bob
    """
    from keyhierarchy.lifecycle import purging  # noqa: PLC0415

    common.confirm(
        f"Request the purge of {store}? It closes the policy at once.", yes=yes, dry_run=dry_run
    )
    outcome = purging.request(
        common.store_of(context, store),
        common.rooms_of(context, store),
        reason=reason,
        contact=contact,
        approver=approver,
        policy=policy,
        dry_run=dry_run,
    )
    common.print_outcome(outcome, as_json=as_json)
    if not as_json:
        typer.echo(f"it can be executed after {outcome.facts['not_before']}")


@app.command()
def approve(
    context: typer.Context,
    store: StoreArgument,
    *,
    policy: PolicyOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Approve a purge, from the account that the request names (through sudo, for instance).

    Example: sudo ckfs-keys purge approve /srv/store
    """
    from keyhierarchy.lifecycle import purging  # noqa: PLC0415

    common.confirm(f"Approve the purge of {store}?", yes=yes, dry_run=dry_run)
    outcome = purging.approve(
        common.store_of(context, store),
        common.rooms_of(context, store),
        policy=policy,
        dry_run=dry_run,
    )
    common.print_outcome(outcome, as_json=as_json)


@app.command()
def cancel(
    context: typer.Context,
    store: StoreArgument,
    *,
    policy: PolicyOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Withdraw the request for a purge; the policy goes back to what it was.

    Example: ckfs-keys purge cancel ~/store
    """
    from keyhierarchy.lifecycle import purging  # noqa: PLC0415

    common.confirm(f"Cancel the purge of {store}?", yes=yes, dry_run=dry_run)
    outcome = purging.cancel(
        common.store_of(context, store),
        common.rooms_of(context, store),
        policy=policy,
        dry_run=dry_run,
    )
    common.print_outcome(outcome, as_json=as_json)


@app.command()
def execute(
    context: typer.Context,
    store: StoreArgument,
    *,
    policy: PolicyOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="A vault that does not answer counts as gone.")
    ] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Destroy every wrap. There is no way back. Exit code 31 while a key can survive elsewhere.

    Example: ckfs-keys purge execute ~/store --dry-run
    """
    from keyhierarchy.lifecycle import purging  # noqa: PLC0415

    common.confirm(
        f"Destroy the keys of {store}, for good? Nobody can bring the files back.",
        yes=yes,
        dry_run=dry_run,
    )
    outcome = purging.execute(
        common.store_of(context, store),
        common.rooms_of(context, store),
        policy=policy,
        force=force,
        dry_run=dry_run,
    )
    common.print_outcome(outcome, as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    store: StoreArgument,
    *,
    policy: PolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the request for a purge: who, why, approved, when it can be executed.

    Example: ckfs-keys purge show ~/store
    """
    from keyhierarchy.lifecycle import purging  # noqa: PLC0415

    facts = purging.show(common.store_of(context, store), policy)
    if as_json:
        display.print_json(facts)
        return
    typer.echo(display.shown(f"policy {facts['policy']} ({facts['policy_id']}): {facts['state']}"))
    for name, value in (facts["request"] or {"request": "none on this host"}).items():
        typer.echo(display.shown(f"  {name}: {value}"))
