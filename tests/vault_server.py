"""Runs a `ckfs-vault` server of its own for tests, in a subprocess on free ports.

    with vault_server(tmp_path / "site", vaults=("kv1", "kv2")) as server:
        client = server.key_client("kv1")
        server.admin.set_fault("503", vault="kv1")

Names below vault.test resolve inside the with block, the Azure client's process-wide challenge
cache is empty at its start, and the server is stopped at its end, whatever happened.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from azure.identity import ClientSecretCredential
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys._shared import http_challenge_cache
from azure.keyvault.keys.crypto import CryptographyClient

from keyhierarchy.vault.admin_client import AdminClient
from keyhierarchy.vault.certificates import ca_path
from keyhierarchy.vault.resolve import local_names
from keyhierarchy.vault.site import Client, Running, load_client, load_running

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, "-m", "keyhierarchy.vault.cli"]
START_SECONDS = 30.0
STOP_SECONDS = 10.0
# The clients' own defaults are 300 s; a test must not wait that long for a fault.
TIMEOUTS = {"connection_timeout": 5, "read_timeout": 10}


def run_cli(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], cwd=ROOT, check=check, capture_output=True, text=True
    )


class VaultServer:
    """One installation and the process that serves it."""

    def __init__(self, folder: Path, *serve_options: str) -> None:
        self.folder = folder
        self.ca_path = str(ca_path(folder))
        self.admin = AdminClient(folder)
        self.serve_options = serve_options
        self._process: subprocess.Popen[bytes] | None = None

    # The process

    def start(self) -> None:
        """Returns when the server takes requests; its stderr goes to DIR/server.log."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*PROGRAM, "serve", str(self.folder), *self.serve_options],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while load_running(self.folder) is None or self.running.pid != self._process.pid:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"ckfs-vault did not start: {self.log()}")
            time.sleep(0.02)

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        return self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, how)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def restart(self, *, port: int | None = None) -> None:
        """Stops and starts again, on the same port unless told otherwise: key ids stay valid."""
        port = self.running.port if port is None else port
        self.stop()
        self.serve_options = (*self.serve_options, "--port", str(port))
        self.start()

    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    # Where it is and how to speak to it

    @property
    def running(self) -> Running:
        running = load_running(self.folder)
        assert running is not None, "the server does not run"
        return running

    def url(self, vault: str) -> str:
        return self.running.vaults[vault]

    def client(self, principal: str = "client") -> Client:
        return load_client(self.folder, principal)

    def add_principal(self, name: str, permissions: dict[str, list[str]]) -> Client:
        """A new application; `permissions` by vault."""
        self.admin.command("principal-add", name=name)
        for vault, words in permissions.items():
            self.admin.grant(vault, name, words)
        return self.client(name)

    def environment(self, principal: str = "client") -> dict[str, str]:
        """For DefaultAzureCredential and for programs started by a test."""
        client = self.client(principal)
        return {
            "AZURE_AUTHORITY_HOST": self.running.authority,
            "AZURE_TENANT_ID": client.tenant_id,
            "AZURE_CLIENT_ID": client.client_id,
            "AZURE_CLIENT_SECRET": client.client_secret,
            "REQUESTS_CA_BUNDLE": self.ca_path,
            "SSL_CERT_FILE": self.ca_path,
        }

    def credential(self, principal: str = "client", **options: Any) -> ClientSecretCredential:
        client = self.client(principal)
        settings = {
            "authority": self.running.authority,
            "disable_instance_discovery": True,
            "connection_verify": self.ca_path,
        }
        return ClientSecretCredential(
            client.tenant_id, client.client_id, client.client_secret, **(settings | options)
        )

    def key_client(self, vault: str, principal: str = "client", **options: Any) -> KeyClient:
        settings = TIMEOUTS | {"connection_verify": self.ca_path} | options
        return KeyClient(self.url(vault), self.credential(principal), **settings)

    def crypto_client(
        self, key: Any, principal: str = "client", **options: Any
    ) -> CryptographyClient:
        """`key` is a KeyVaultKey or a key id; a key id alone lets the client ask the vault."""
        settings = TIMEOUTS | {"connection_verify": self.ca_path} | options
        return CryptographyClient(key, self.credential(principal), **settings)

    def audit(self, vault: str) -> list[dict[str, Any]]:
        place = self.folder / "vaults" / vault / "audit.jsonl"
        if not place.exists():
            return []  # nobody has asked this vault for anything yet
        return [json.loads(line) for line in place.read_text().splitlines()]


@contextlib.contextmanager
def vault_server(
    folder: Path,
    vaults: tuple[str, ...] = ("kv1", "kv2"),
    *,
    hsms: tuple[str, ...] = (),
    init_options: tuple[str, ...] = (),
    serve_options: tuple[str, ...] = (),
    throttle: str = "off",
) -> Iterator[VaultServer]:
    """Makes an installation in `folder` (which must not exist) and serves it."""
    named = [word for name in vaults for word in ("--vault", name)]
    named += [word for name in hsms for word in ("--hsm", name)]
    run_cli("init", str(folder), *named, *init_options)
    server = VaultServer(folder, *serve_options)
    with local_names():
        http_challenge_cache.clear()
        try:
            server.start()
            for name in (*vaults, *hsms):
                server.admin.configure(name, throttle=throttle)
            yield server
        finally:
            server.stop()
            http_challenge_cache.clear()
