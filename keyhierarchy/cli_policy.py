"""`ckfs-keys policy`: validate, register, show, list, create, assign. Parses, calls, prints."""

from __future__ import annotations

from typing import Annotated, Any

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

app = typer.Typer(
    help="Data encryption policies: which root keys protect what.", no_args_is_help=True
)


@app.command()
def validate(
    context: typer.Context,
    store: StoreArgument,
    *,
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
    as_json: JsonOption = False,
) -> None:
    """Check two keys by every rule for customer keys, with a round trip. Changes nothing.

    Without keys, those that the policy has are checked. Exit code 30 if a rule failed.

    Example: ckfs-keys policy validate ~/store --primary-uri
    https://contoso1.vault.azure.net/keys/root/0123456789abcdef0123456789abcdef --secondary-uri
    https://contoso2.vault.azure.net/keys/root/0123456789abcdef0123456789abcdef
    """
    from keyhierarchy.lifecycle import session, validation  # noqa: PLC0415

    primary = common.named_key("primary", primary_uri, primary_vault, primary_key, primary_version)
    secondary = common.named_key(
        "secondary", secondary_uri, secondary_vault, secondary_key, secondary_version
    )
    keystore = session.load(common.store_of(context, store))
    found = session.find_policy(keystore, policy).policy
    if primary is None and secondary is None:
        present = {wrap.slot: wrap.key_id for wrap in found.current_tik.wraps}
        primary, secondary = present.get("primary"), present.get("secondary")
    pair = validation.require_pair(primary, secondary)
    rooms = common.rooms_of(context, store)
    findings = validation.validate(rooms, found, pair, keystore)
    told = [finding.told() for finding in findings]
    if as_json:
        display.print_json({"findings": told, "not_checkable": validation.NOT_CHECKABLE})
    else:
        for finding in told:
            typer.echo(display.shown(common.finding_line(finding)))
        for rule, text in validation.NOT_CHECKABLE.items():
            typer.echo(f"look {rule}: {text}")
    validation.require_passed(findings, accept or [])


@app.command()
def register(
    context: typer.Context,
    store: StoreArgument,
    *,
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
    """Put a policy under two customer keys; mounts go on. Run again after a kill, it goes on.

    Example: ckfs-keys policy register ~/store --primary-vault contoso1 --primary-key root
    --primary-version 0123456789abcdef0123456789abcdef --secondary-vault contoso2
    --secondary-key root --secondary-version 0123456789abcdef0123456789abcdef
    """
    from keyhierarchy.lifecycle import register as verb  # noqa: PLC0415

    primary = common.named_key("primary", primary_uri, primary_vault, primary_key, primary_version)
    secondary = common.named_key(
        "secondary", secondary_uri, secondary_vault, secondary_key, secondary_version
    )
    common.confirm(
        f"Register {primary} and {secondary} for {store}? Losing both, and the availability key, "
        "loses the data.",
        yes=yes,
        dry_run=dry_run,
    )
    with common.Progress() as progress:
        outcome = verb.register(
            common.store_of(context, store),
            common.rooms_of(context, store),
            primary=primary,
            secondary=secondary,
            policy=policy,
            accept=accept or [],
            dry_run=dry_run,
            watch=progress.watch(),
        )
    common.print_outcome(outcome, as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    store: StoreArgument,
    *,
    policy: PolicyOption = None,
    site: Annotated[
        str | None, typer.Option("--site", metavar="ID", help="One site, by its id's beginning.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a policy and its sites, or one site: state, keys, progress. In default mode, too.

    Example: ckfs-keys policy show ~/store

    Example: ckfs-keys policy show ~/store --site 4f2a --json
    """
    from keyhierarchy.lifecycle import showing  # noqa: PLC0415

    place = common.store_of(context, store)
    facts = showing.one_site(place, site) if site else showing.one_policy(place, policy)
    if as_json:
        display.print_json(facts)
    elif site:
        _say(_site_line(facts))
    else:
        _say(*_policy_lines(facts), *(f"  {_site_line(one)}" for one in facts["sites"]))


@app.command("list")
def list_policies(
    *, context: typer.Context, store: StoreArgument, as_json: JsonOption = False
) -> None:
    """List the policies of a store.

    Example: ckfs-keys policy list ~/store
    """
    from keyhierarchy.lifecycle import showing  # noqa: PLC0415

    facts = showing.policies(common.store_of(context, store))
    if as_json:
        display.print_json({"policies": facts})
    else:
        _say(*(line for one in facts for line in _policy_lines(one)))


@app.command()
def create(
    context: typer.Context,
    store: StoreArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, dots, hyphens.")],
    *,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make one more policy: service-managed, without sites; then register keys or assign sites.

    Example: ckfs-keys policy create ~/store legal
    """
    from keyhierarchy.lifecycle import assigning  # noqa: PLC0415

    outcome = assigning.create_policy(
        common.store_of(context, store), common.rooms_of(context, store), name, dry_run=dry_run
    )
    common.print_outcome(outcome, as_json=as_json)


@app.command()
def assign(
    context: typer.Context,
    store: StoreArgument,
    site: Annotated[str, typer.Argument(metavar="SITE", help="Its id, or how that begins.")],
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="Name or id.")],
    *,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put a site under another policy, with a new site key.

    Example: ckfs-keys policy assign ~/store 4f2a legal
    """
    from keyhierarchy.lifecycle import assigning  # noqa: PLC0415

    common.confirm(f"Put site {site} under policy {policy}?", yes=yes, dry_run=dry_run)
    outcome = assigning.assign(
        common.store_of(context, store),
        common.rooms_of(context, store),
        site,
        policy,
        dry_run=dry_run,
    )
    common.print_outcome(outcome, as_json=as_json)


def _say(*lines: str) -> None:
    typer.echo("\n".join(display.shown(line) for line in lines))


def _policy_lines(facts: dict[str, Any]) -> list[str]:
    state = f"{facts['state']}, {facts['progress']:.0%} done, {facts['site_count']} sites"
    lines = [f"policy {facts['name']} ({facts['id']}): {state}"]
    lines += [f"  {slot}: {key_id}" for slot, key_id in facts["keys"].items()]
    if facts["operation"]:
        verb, started = facts["operation"]["verb"], facts["operation"]["started"]
        begun = f"  {verb} was begun at {started}; if it is not running, go on with: "
        lines.append(f"{begun}ckfs-keys resume")
    return lines


def _site_line(facts: dict[str, Any]) -> str:
    return (
        f"site {facts['id']}: {facts['workload']}, policy {facts['policy']}, {facts['state']}, "
        f"{facts['progress']:.0%} done, site key generation {facts['site_key_generation']}"
    )
