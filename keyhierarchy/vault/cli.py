"""`ckfs-vault`: makes an installation, serves it, and administers it.

Commands that change something go to the serving process when there is one, and to the folder when
there is none. Errors are one line; exit codes: 0 done, 1 unexpected, 2 wrong usage or a refusal,
3 the folder is damaged or no installation, 4 the server is needed and not there, or in the way.
"""

import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from keyhierarchy import secrecy
from keyhierarchy.vault.admin_client import AdminClient, NotRunning
from keyhierarchy.vault.administration import Administration, run_command
from keyhierarchy.vault.certificates import ca_path, make_certificates
from keyhierarchy.vault.errors import StateDamaged
from keyhierarchy.vault.faults import KINDS, FaultBoard
from keyhierarchy.vault.identifiers import is_vault_name
from keyhierarchy.vault.principals import add_principal
from keyhierarchy.vault.records import (
    DEFAULT_RETENTION_DAYS,
    MINIMUM_RETENTION_DAYS,
    VaultKind,
    VaultProperties,
)
from keyhierarchy.vault.resolve import DOMAINS, LOOPBACK
from keyhierarchy.vault.routes import PERMISSIONS
from keyhierarchy.vault.site import (
    InUse,
    Running,
    Site,
    client_path,
    create_site,
    exclusive,
    is_served,
    load_client,
    load_running,
)

EXIT_UNEXPECTED = 1
EXIT_REFUSED = 2
EXIT_DAMAGED = 3
EXIT_SERVER = 4
FIRST_CLIENT = "client"

app = typer.Typer(
    name="ckfs-vault",
    help="A local Key Vault that the unmodified Azure clients talk to.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
principal_app = typer.Typer(help="Client applications.", no_args_is_help=True)
fault_app = typer.Typer(help="Faults for tests of clients.", no_args_is_help=True)
app.add_typer(principal_app, name="principal")
app.add_typer(fault_app, name="fault")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The installation's folder.")]


def _example(text: str) -> str:
    return f"Example: [bold]{text}[/bold]"


@app.command(epilog=_example("ckfs-vault init ./vaults --vault kv-primary --vault kv-secondary"))
def init(
    folder: Folder,
    *,
    vault: Annotated[list[str] | None, typer.Option(help="A vault; may be repeated.")] = None,
    hsm: Annotated[list[str] | None, typer.Option(help="A Managed HSM; may be repeated.")] = None,
    purge_protection: Annotated[bool, typer.Option(help="Refuse to purge.")] = False,
    recovery_level: Annotated[
        str, typer.Option(help="For example Recoverable+ProtectedSubscription.")
    ] = "",
    retention_days: Annotated[int, typer.Option(help="7 to 90.")] = DEFAULT_RETENTION_DAYS,
    domain: Annotated[str, typer.Option(help="Vaults answer as NAME.DOMAIN.")] = DOMAINS[0],
) -> None:
    """Makes a folder with keys, certificates, vaults and a first client that may do everything."""
    kinds: list[tuple[str, VaultKind]] = [(name, "vault") for name in vault or []]
    kinds += [(name, "hsm") for name in hsm or []]
    if not kinds or len(set(kinds)) != len(kinds):
        raise ValueError("name at least one vault with --vault, and each one once")
    vaults = [
        _properties(name, kind, recovery_level, retention_days, purge_protection)
        for name, kind in kinds
    ]
    hsm_domain = DOMAINS[1] if domain == DOMAINS[0] else f"hsm.{domain}"
    site = create_site(folder, vaults, domain, hsm_domain)
    make_certificates(folder, [domain, hsm_domain])
    principal, secret = add_principal(site.installation, FIRST_CLIENT)
    for ring in site.vaults.values():
        ring.configure(
            lambda properties: properties.access_policies.update(
                {principal.object_id: list(PERMISSIONS)}
            )
        )
    site.save_installation()
    path = site.save_client(principal, secret)
    typer.echo(f"made {folder} with {', '.join(name for name, _ in kinds)}")
    typer.echo(f"client credentials: {path}")
    typer.echo(f"CA for clients: {ca_path(folder)}")
    typer.echo(f"next: ckfs-vault serve {folder}")


def _properties(
    name: str, kind: VaultKind, level: str, retention_days: int, purge_protection: bool
) -> VaultProperties:
    if not is_vault_name(name):
        raise ValueError(f"{name!r} is no vault name: 3 to 24 of a-z, 0-9 and single hyphens")
    if not MINIMUM_RETENTION_DAYS <= retention_days <= DEFAULT_RETENTION_DAYS:
        raise ValueError(f"retention is {MINIMUM_RETENTION_DAYS} to {DEFAULT_RETENTION_DAYS} days")
    properties = VaultProperties(
        name=name,
        # Two vaults of one service must lie in two subscriptions, so each gets one of its own.
        subscription=str(uuid.uuid4()),
        kind=kind,
        retention_days=retention_days,
        purge_protection=purge_protection or (bool(level) and "+" not in level),
        subscription_protected=level.endswith("+ProtectedSubscription"),
    )
    if level and properties.recovery_level != level:
        raise ValueError(
            f"{level!r} does not go with {retention_days} days of retention; with these options "
            f"it is {properties.recovery_level!r}"
        )
    return properties


@app.command(epilog=_example("ckfs-vault serve ./vaults --port 8443"))
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = LOOPBACK,
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 0,
    admin_port: Annotated[int, typer.Option(help="Administration, loopback only.")] = 0,
) -> None:
    """Serves the vaults until SIGTERM; prints 'ready' and the addresses when it takes requests."""
    # Imported here alone: the HTTP server takes longer to load than any other command to run.
    from keyhierarchy.vault import serve as server  # noqa: PLC0415

    def announce(running: Running) -> None:
        for url in running.vaults.values():
            typer.echo(f"vault {url}")
        typer.echo(f"authority {running.authority}")
        typer.echo("ready")
        sys.stdout.flush()

    server.serve(folder, host=host, port=port, admin_port=admin_port, ready=announce)


@app.command(epilog=_example('eval "$(ckfs-vault env ./vaults)"'))
def env(
    folder: Folder,
    principal: Annotated[str, typer.Option(help="Whose credentials.")] = FIRST_CLIENT,
) -> None:
    """Prints the environment for a client of the running server, its secret included."""
    running = load_running(folder) if is_served(folder) else None
    if running is None:
        raise NotRunning(f"no server runs on {folder}; start one with: ckfs-vault serve {folder}")
    if not client_path(folder, principal).exists():
        raise ValueError(f"no credentials are kept for {principal!r} in {folder}")
    client = load_client(folder, principal)
    ca = str(ca_path(folder).resolve())
    for name, value in {
        "AZURE_AUTHORITY_HOST": running.authority,
        "AZURE_TENANT_ID": client.tenant_id,
        "AZURE_CLIENT_ID": client.client_id,
        "AZURE_CLIENT_SECRET": client.client_secret,
        "REQUESTS_CA_BUNDLE": ca,
        "SSL_CERT_FILE": ca,
    }.items():
        typer.echo(f"export {name}='{value}'")


@app.command(epilog=_example("ckfs-vault show ./vaults"))
def show(folder: Folder) -> None:
    """Vaults, principals and permissions, as JSON."""
    _print(_run(folder, "show"))


@app.command(epilog=_example("ckfs-vault grant ./vaults kv-primary ckfs get wrapKey unwrapKey"))
def grant(
    folder: Folder,
    vault: Annotated[str, typer.Argument()],
    principal: Annotated[str, typer.Argument()],
    permission: Annotated[list[str] | None, typer.Argument(help="None at all revokes.")] = None,
) -> None:
    """Replaces what a principal may do in a vault; 'all' gives everything."""
    _print(_run(folder, "grant", vault=vault, principal=principal, permissions=permission or []))


@app.command(epilog=_example("ckfs-vault configure ./vaults kv-primary --throttle off"))
def configure(
    folder: Folder,
    vault: Annotated[str, typer.Argument()],
    delete_seconds: Annotated[float | None, typer.Option(help="A delete takes so long.")] = None,
    recover_seconds: Annotated[float | None, typer.Option(help="A recovery, too.")] = None,
    throttle: Annotated[
        str | None, typer.Option(help="service, off, or requests in ten seconds.")
    ] = None,
) -> None:
    """Changes delays and limits of a vault."""
    delays = {"delete_seconds": delete_seconds, "recover_seconds": recover_seconds}
    _print(_run(folder, "configure", vault=vault, throttle=throttle, **delays))


@app.command(epilog=_example("ckfs-vault clock ./vaults 3600"))
def clock(
    folder: Folder,
    seconds: Annotated[float, typer.Argument(help="0 sets it right again.")],
) -> None:
    """Sets the running server's clock ahead (or behind) by so many seconds."""
    _print(AdminClient(folder).command("clock", seconds=seconds))


@principal_app.command("add", epilog=_example("ckfs-vault principal add ./vaults ckfs"))
def principal_add(folder: Folder, name: Annotated[str, typer.Argument()]) -> None:
    """Makes a client application; it may do nothing until 'grant'. Prints its credentials."""
    _print(_run(folder, "principal-add", name=name))


@fault_app.command(
    "set", epilog=_example("ckfs-vault fault set ./vaults 429 --operation unwrapKey --count 3")
)
def fault_set(
    folder: Folder,
    kind: Annotated[str, typer.Argument(help=", ".join(KINDS))],
    *,
    vault: Annotated[str, typer.Option(help="A vault; * for all; login for the authority.")] = "*",
    operation: Annotated[str, typer.Option(help="Such as unwrapKey; * for all.")] = "*",
    count: Annotated[int | None, typer.Option(help="So many requests; else for ever.")] = None,
    seconds: Annotated[float, typer.Option(help="For latency and slow.")] = 0.0,
    retry_after: Annotated[int | None, typer.Option(help="Retry-After, in seconds.")] = None,
) -> None:
    """Switches a fault on in the running server."""
    numbers = {"count": count, "seconds": seconds, "retry_after": retry_after}
    client = AdminClient(folder)
    _print(client.command("fault-set", kind=kind, vault=vault, operation=operation, **numbers))


@fault_app.command("clear", epilog=_example("ckfs-vault fault clear ./vaults"))
def fault_clear(
    folder: Folder,
    fault_id: Annotated[int | None, typer.Argument(metavar="ID", help="Without: all.")] = None,
) -> None:
    """Switches one fault off, or all."""
    _print(AdminClient(folder).command("fault-clear", id=fault_id))


@fault_app.command("list", epilog=_example("ckfs-vault fault list ./vaults"))
def fault_list(folder: Folder) -> None:
    """Shows the faults that are on, and how often each has struck."""
    _print(AdminClient(folder).command("fault-list"))


def _run(folder: Path, command: str, /, **request: Any) -> Any:
    """At the running server if there is one; else on the folder, which is locked meanwhile."""
    try:
        with exclusive(folder):
            administration = Administration(Site(folder), FaultBoard())
            return run_command(administration, command, msgspec.json.encode(request))
    except InUse:
        return AdminClient(folder).command(command, **request)


def _print(answer: Any) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, FileExistsError) as error:
        _fail(EXIT_REFUSED, error)
    except StateDamaged as error:
        _fail(EXIT_DAMAGED, error)
    except (InUse, NotRunning) as error:
        _fail(EXIT_SERVER, error)
    except OSError as error:
        _fail(EXIT_UNEXPECTED, error)
    except BaseExceptionGroup as group:
        # The server's tasks end together; the first error is the reason.
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        _fail(EXIT_UNEXPECTED, first)


def _fail(code: int, error: BaseException) -> None:
    typer.echo(f"ckfs-vault: {str(error) or type(error).__name__}", err=True)
    sys.exit(code)


def main() -> None:
    secrecy.shut()
    with _one_line_errors():
        app(prog_name="ckfs-vault")


if __name__ == "__main__":
    main()
