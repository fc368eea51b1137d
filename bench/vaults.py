"""Two Key Vaults of one's own for a demonstration or a measurement, and their administrator."""

import os
import re
import subprocess
import sys
from pathlib import Path

from azure.identity import DefaultAzureCredential
from azure.keyvault.keys import KeyClient

from bench.stage import run
from keyhierarchy.vault.resolve import install


class Vaults:
    """The demonstration's vault server, and the keys in it as their administrator sees them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        run(
            *("ckfs-vault", "init", str(folder)),
            *("--vault", "kv-primary", "--vault", "kv-secondary"),
            *("--recovery-level", "Recoverable+ProtectedSubscription"),
            quiet=True,
        )
        print(f"$ ckfs-vault serve {folder} &", flush=True)
        self._server = subprocess.Popen(
            (sys.executable, "-m", "keyhierarchy.vault.cli", "serve", str(folder)),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._server.stdout is not None  # noqa: S101 it was asked for
        self._urls = []
        for line in self._server.stdout:
            print(line, end="")
            if "ready" in line:
                break
            self._urls.append(line.split()[-1])
        said = run("ckfs-vault", "env", str(folder), quiet=True)
        for name, value in re.findall(r"^export (\w+)='?([^'\n]*)'?$", said, re.MULTILINE):
            os.environ[name] = value
        install()

    def settings(self, *more: str) -> None:
        """What this host's administrator says of vaults: whom to trust, and `more`."""
        ca = os.environ["REQUESTS_CA_BUNDLE"]
        run(
            *("ckfs-keys", "vault", "set", f"ca_file={ca}", f"authority_ca_file={ca}"),
            f"authority_host={os.environ['AZURE_AUTHORITY_HOST']}",
            *("disable_instance_discovery=true", *more),
        )

    def close(self) -> None:
        """Stop the server."""
        self._server.terminate()
        self._server.wait(20)

    def client(self, vault: str) -> KeyClient:
        """The key administrator's."""
        url = next(one for one in self._urls if f"//{vault}." in one)
        return KeyClient(
            url,
            DefaultAzureCredential(disable_instance_discovery=True),
            connection_verify=os.environ["REQUESTS_CA_BUNDLE"],
        )

    def make(self, vault: str, name: str) -> str:
        """A new RSA key that may wrap and unwrap, or a new version of it; returns its id."""
        key = self.client(vault).create_rsa_key(
            name, size=3072, key_operations=["wrapKey", "unwrapKey"]
        )
        return str(key.id)

    def enable(self, vault: str, name: str, *, enabled: bool) -> None:
        """What a customer does who takes a key away for a while."""
        self.client(vault).update_key_properties(name, enabled=enabled)
