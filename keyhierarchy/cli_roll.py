"""`ckfs-keys roll`: one key at a time, of five kinds. Parses, calls, prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from keyhierarchy import cli_common as common
from keyhierarchy.cli_common import (  # noqa: TC001 - typer reads them when it runs
    AcceptOption,
    DryRunOption,
    JsonOption,
    PolicyOption,
    StoreArgument,
    YesOption,
)

if TYPE_CHECKING:
    from keyhierarchy.lifecycle.rolling import RootSlot

roll_app = typer.Typer(
    help="Replace one key. No file is touched, and mounts go on.", no_args_is_help=True
)

Uri = Annotated[str | None, typer.Option("--uri", metavar="URI", help="Key id with its version.")]
Vault = Annotated[str | None, typer.Option("--vault", metavar="NAME", help="Vault or host.")]
Key = Annotated[str | None, typer.Option("--key", metavar="NAME", help="Name of the key.")]
Version = Annotated[str | None, typer.Option("--version", metavar="ID", help="Its version.")]


@roll_app.command("primary")
def roll_primary(
    context: typer.Context,
    store: StoreArgument,
    *,
    uri: Uri = None,
    vault: Vault = None,
    key: Key = None,
    version: Version = None,
    policy: PolicyOption = None,
    accept: AcceptOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put a new key, or a new version of the key, in the place of the primary key.

    Example: ckfs-keys roll primary ~/store --uri
    https://contoso1.vault.azure.net/keys/root/0123456789abcdef0123456789abcdef
    """
    key_id = common.named_key("new", uri, vault, key, version)
    _roll_root(
        context,
        store,
        "primary",
        key_id,
        policy=policy,
        accept=accept,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@roll_app.command("secondary")
def roll_secondary(
    context: typer.Context,
    store: StoreArgument,
    *,
    uri: Uri = None,
    vault: Vault = None,
    key: Key = None,
    version: Version = None,
    policy: PolicyOption = None,
    accept: AcceptOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put a new key, or a new version of the key, in the place of the secondary key.

    Example: ckfs-keys roll secondary ~/store --vault contoso2 --key root --version
    0123456789abcdef0123456789abcdef
    """
    key_id = common.named_key("new", uri, vault, key, version)
    _roll_root(
        context,
        store,
        "secondary",
        key_id,
        policy=policy,
        accept=accept,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@roll_app.command("availability")
def roll_availability(
    context: typer.Context,
    store: StoreArgument,
    *,
    policy: PolicyOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new availability key in the place of the old one.

    Example: ckfs-keys roll availability ~/store
    """
    _roll_root(
        context,
        store,
        "availability",
        None,
        policy=policy,
        accept=None,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )


@roll_app.command("tik")
def roll_tik(
    context: typer.Context,
    store: StoreArgument,
    *,
    policy: PolicyOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new tenant intermediate key under the same root keys, and rewrap the site keys.

    Example: ckfs-keys roll tik ~/store --policy legal
    """
    from keyhierarchy.lifecycle import rolling  # noqa: PLC0415

    common.confirm(f"Roll the tenant intermediate key of {store}?", yes=yes, dry_run=dry_run)
    with common.Progress() as progress:
        outcome = rolling.roll_tik(
            common.store_of(context, store),
            common.rooms_of(context, store),
            policy=policy,
            dry_run=dry_run,
            watch=progress.watch(),
        )
    common.print_outcome(outcome, as_json=as_json)


@roll_app.command("site-key")
def roll_site_key(
    context: typer.Context,
    store: StoreArgument,
    site: Annotated[str, typer.Argument(metavar="SITE", help="Its id, or how that begins.")],
    *,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new site key for what is written from now on.

    Example: ckfs-keys roll site-key ~/store 4f2a
    """
    from keyhierarchy.lifecycle import rolling, session  # noqa: PLC0415

    place = common.store_of(context, store)
    _, found = rolling.find_site(session.load(place), site)
    common.confirm(f"Roll the site key of site {found.site_id}?", yes=yes, dry_run=dry_run)
    outcome = rolling.roll_site_key(
        place, common.rooms_of(context, store), found.site_id, dry_run=dry_run
    )
    common.print_outcome(outcome, as_json=as_json)


def _roll_root(
    context: typer.Context,
    store: str,
    slot: RootSlot,
    key_id: str | None,
    *,
    policy: str | None,
    accept: list[str] | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    from keyhierarchy.lifecycle import rolling  # noqa: PLC0415

    common.confirm(f"Roll the {slot} key of {store}?", yes=yes, dry_run=dry_run)
    with common.Progress() as progress:
        outcome = rolling.roll_root(
            common.store_of(context, store),
            common.rooms_of(context, store),
            slot,
            key_id=key_id,
            policy=policy,
            accept=accept or [],
            dry_run=dry_run,
            watch=progress.watch(),
        )
    common.print_outcome(outcome, as_json=as_json)
