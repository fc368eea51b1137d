"""`ckfs-keys vault`: which vault keys a store may name on this host, and how vaults are reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import msgspec
import typer

from keyhierarchy import display
from keyhierarchy.cli_common import JsonOption  # noqa: TC001 - typer reads it when it runs

if TYPE_CHECKING:
    from keyhierarchy.administration import CustomerSlot

app = typer.Typer(
    help="What this host's administrator allows of vaults, and how they are reached.",
    no_args_is_help=True,
)
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Key id with its version.")]


@app.command()
def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show allowed vaults and keys, and all settings.

    Example: ckfs-keys vault show
    """
    from keyhierarchy import administration  # noqa: PLC0415

    facts = msgspec.to_builtins(administration.load(context.obj))
    if as_json:
        display.print_json(facts)
        return
    for host in facts["vault_hosts"]:
        typer.echo(display.shown(f"vault {host}: every key"))
    for key in facts["keys"]:
        typer.echo(display.shown(f"policy {key['policy_id']} {key['slot']}: {key['key_id']}"))
    for name, value in facts["settings"].items():
        typer.echo(display.shown(f"{name} = {'' if value is None else value}"))


@app.command()
def allow(
    context: typer.Context,
    key: KeyArgument,
    policy: Annotated[str, typer.Option("--policy", metavar="ID", help="The policy's id.")],
    slot: Annotated[str, typer.Option("--slot", help="primary or secondary.")],
) -> None:
    """Let a policy use a key here that was registered from another host.

    Example: ckfs-keys vault allow --policy 4f2a0000000000000000000000000000 --slot primary
    https://contoso1.vault.azure.net/keys/root/0123456789abcdef0123456789abcdef
    """
    from keyhierarchy import administration  # noqa: PLC0415

    if slot not in {"primary", "secondary"}:
        raise typer.BadParameter("the slot is primary or secondary.")
    administration.allow(context.obj, key, policy_id=policy, slot=cast("CustomerSlot", slot))
    typer.echo(f"policy {display.shown(policy)} may use {display.shown(key)} as {slot} key")


@app.command()
def disallow(context: typer.Context, key: KeyArgument) -> None:
    """Take the permission for a key back, for every policy.

    Example: ckfs-keys vault disallow
    https://contoso1.vault.azure.net/keys/root/0123456789abcdef0123456789abcdef
    """
    from keyhierarchy import administration  # noqa: PLC0415

    administration.disallow(context.obj, key)
    typer.echo(f"no policy may use {display.shown(key)} on this host")


@app.command("set")
def set_values(
    context: typer.Context,
    values: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE...", help="As `vault show` names them.")
    ],
) -> None:
    """Change settings; an empty value sets one back. Mounts follow when they are mounted again.

    Example: ckfs-keys vault set ca_file=/etc/ssl/vault-ca.pem lease_seconds=600
    """
    from keyhierarchy import administration  # noqa: PLC0415

    known = msgspec.to_builtins(administration.load(context.obj).settings)
    for value in values:
        name, separator, text = value.partition("=")
        if not separator or name not in known:
            raise typer.BadParameter(f"no setting {name!r}; there are: {', '.join(known)}.")
        known.pop(name) if not text else known.update({name: text})
    try:
        settings = msgspec.convert(known, administration.Settings, strict=False)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(f"{error}.") from error
    administration.configure(context.obj, settings)
    show(context)
