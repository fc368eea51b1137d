"""Serves an installation: hypercorn on trio; one TLS listener for vaults, one for administration.

Owns the process's signals and the readiness file. Certificates are chosen for each handshake, so
that a fault can show a bad one; the administration's listener always shows the good one.
"""

import os
import signal
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve
from hypercorn.typing import ASGIFramework

from keyhierarchy.vault.admin_app import AdminApp
from keyhierarchy.vault.administration import Administration
from keyhierarchy.vault.app import VaultApp
from keyhierarchy.vault.certificates import EXPIRED, GOOD, UNTRUSTED, pem_path
from keyhierarchy.vault.faults import FaultBoard
from keyhierarchy.vault.identifiers import AUTHORITY_LABEL
from keyhierarchy.vault.resolve import LOOPBACK
from keyhierarchy.vault.site import RUNNING, Running, Site, exclusive, save_running

_HTTPS_PORT = 443
# Longer than a client keeps an idle connection, so that it is the client who closes.
_KEEP_ALIVE_SECONDS = 120
_GRACE_SECONDS = 1.0
_CERTIFICATES = {"tls-expired": EXPIRED, "tls-untrusted": UNTRUSTED}


class _TlsConfig(Config):
    """hypercorn's configuration with our own TLS context in place of certificate files."""

    def __init__(self, context: ssl.SSLContext, bind: str) -> None:
        super().__init__()
        self._context = context
        self.bind = [bind]
        self.include_server_header = False
        self.keep_alive_timeout = _KEEP_ALIVE_SECONDS
        self.keep_alive_max_requests = sys.maxsize
        self.graceful_timeout = _GRACE_SECONDS
        self.loglevel = "WARNING"

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        return self._context


def _context(folder: Path, certificate: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pem_path(folder, certificate))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _vault_context(site: Site, board: FaultBoard) -> ssl.SSLContext:
    """The context of the vaults' listener, which asks the fault board at each handshake."""
    bad = {kind: _context(site.folder, name) for kind, name in _CERTIFICATES.items()}
    good = _context(site.folder, GOOD)

    def choose(connection: ssl.SSLObject, server_name: str | None, _: ssl.SSLContext) -> None:
        vault = site.vault_at(server_name or "")
        fault = board.certificate_fault(vault or AUTHORITY_LABEL)
        if fault is not None:
            connection.context = bad[fault.kind]

    good.sni_callback = choose
    return good


def _port_of(urls: list[str]) -> int:
    return urlsplit(urls[0]).port or 0


def _running(site: Site, port: int, admin_port: int) -> Running:
    installation = site.installation
    suffix = "" if port == _HTTPS_PORT else f":{port}"
    return Running(
        pid=os.getpid(),
        port=port,
        admin_port=admin_port,
        vaults={
            name: f"https://{name}.{installation.domain_of(ring.properties.kind)}{suffix}"
            for name, ring in site.vaults.items()
        },
        authority=f"https://{AUTHORITY_LABEL}.{installation.domain}{suffix}",
    )


async def _serve(
    site: Site, host: str, port: int, admin_port: int, ready: Callable[[Running], None]
) -> None:
    board = FaultBoard()
    stop = trio.Event()
    admin = AdminApp(Administration(site, board), site.admin_token).starlette
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    vault_config = _TlsConfig(_vault_context(site, board), bind)
    admin_config = _TlsConfig(_context(site.folder, GOOD), f"{LOOPBACK}:{admin_port}")

    async def listen(
        app: ASGIFramework, config: Config, *, task_status: trio.TaskStatus[list[str]]
    ) -> None:
        await hypercorn_serve(app, config, shutdown_trigger=stop.wait, task_status=task_status)

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            vault_urls = await nursery.start(listen, VaultApp(site, board).starlette, vault_config)
            admin_urls = await nursery.start(listen, admin, admin_config)
            running = _running(site, _port_of(vault_urls), _port_of(admin_urls))
            save_running(site.folder, running)
            ready(running)
            async for _ in signals:
                stop.set()
                break


def serve(
    folder: Path,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    admin_port: int = 0,
    ready: Callable[[Running], None],
) -> None:
    """Until SIGTERM or SIGINT. `ready` is called once both listeners take connections."""
    with exclusive(folder):
        site = Site(folder)
        try:
            trio.run(_serve, site, host, port, admin_port, ready)
        finally:
            (folder / RUNNING).unlink(missing_ok=True)
