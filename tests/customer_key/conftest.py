"""Two vaults that really answer over HTTPS, and stores whose policy has a key in each of them."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from azure.keyvault.keys._shared import http_challenge_cache

from keyhierarchy import administration, statedir
from keyhierarchy.administration import Settings
from keyhierarchy.customerkeys import VaultRoots, all_roots
from keyhierarchy.hierarchy import Hierarchy, create_store_keys
from keyhierarchy.roots.azure_vault import AzureVaultRoot
from tests.keyhierarchy.customer import give_customer_keys
from tests.keyhierarchy.fakes import FakeClock
from tests.vault_server import VaultServer, vault_server

if TYPE_CHECKING:
    from collections.abc import Iterator

VAULTS = {"primary": "kv1", "secondary": "kv2"}
PERMISSIONS = ["get", "wrapKey", "unwrapKey"]


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory) -> Iterator[VaultServer]:
    folder = tmp_path_factory.mktemp("vault") / "site"
    with vault_server(folder, ("kv1", "kv2"), hsms=("hsm1",)) as server:
        # What a service principal of Customer Key has, and no more.
        server.add_principal("ckfs", dict.fromkeys(("kv1", "kv2", "hsm1"), PERMISSIONS))
        for vault in ("kv1", "kv2", "hsm1"):
            server.admin.configure(vault, delete_seconds=0, recover_seconds=0)
        yield server


@pytest.fixture
def server(shared_server, monkeypatch) -> Iterator[VaultServer]:
    for name, value in shared_server.environment("ckfs").items():
        monkeypatch.setenv(name, value)
    # Trust comes from the administrator's CA file, not from the surroundings.
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.delenv("SSL_CERT_FILE")
    http_challenge_cache.clear()
    yield shared_server
    shared_server.admin.clear_faults()
    shared_server.admin.skew_clock(0)
    for vault in ("kv1", "kv2"):
        shared_server.admin.grant(vault, "ckfs", PERMISSIONS)


@pytest.fixture
def settings(server) -> Settings:
    """Quick ones: what is 10 s for users is 2 s here."""
    return Settings(
        ca_file=server.ca_path,
        authority_host=server.running.authority,
        authority_ca_file=server.ca_path,
        disable_instance_discovery=True,
        hedge_offset_seconds=0.25,
        opening_deadline_seconds=3,
        call_deadline_seconds=2,
        connect_seconds=1,
        read_seconds=1,
    )


@dataclass
class CustomerStore:
    """A store with a key in each vault, on a host whose administrator has allowed both."""

    folder: Path
    server: VaultServer
    clock: FakeClock = field(default_factory=FakeClock)
    store_id: bytes = field(default_factory=lambda: os.urandom(16))
    site_id: bytes = b""
    policy_id: str = ""
    names: dict[str, str] = field(default_factory=dict)

    @property
    def control(self) -> str:
        return str(self.folder / "store" / ".ckfs")

    @property
    def state(self) -> str:
        return str(self.folder / "state")

    @property
    def host(self) -> Path:
        return Path(statedir.store_folder(self.state, self.store_id))

    def open(self, **options) -> Hierarchy:
        return Hierarchy.open(self.control, self.state, self.store_id, clock=self.clock, **options)

    def source(self, **options):
        return all_roots(self.state, VaultRoots(self.state, **options))

    def records(self) -> list[dict]:
        lines = (self.host / "audit.log").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def events(self) -> list[str]:
        return [f"{record['event']} {record['outcome']}" for record in self.records()]

    def reasons(self, event: str) -> str:
        return "\n".join(one["reason"] for one in self.records() if one["event"] == event)

    def client(self, slot: str):
        """The key administrator of one vault."""
        return self.server.key_client(VAULTS[slot])

    def make(self, settings: Settings) -> None:
        os.makedirs(self.control)
        self.site_id = create_store_keys(self.control, self.state, self.store_id, os.urandom(16))
        administration.configure(self.state, settings)
        roots = {}
        for slot, vault in VAULTS.items():
            name = self.names[slot] = f"{slot}-{secrets.token_hex(6)}"
            key = self.server.key_client(vault).create_rsa_key(name)
            roots[slot] = VaultRoots(self.state).root(key.id)
        give_customer_keys(self, roots)


@pytest.fixture
def store(tmp_path, server, settings) -> CustomerStore:
    made = CustomerStore(tmp_path, server)
    made.make(settings)
    return made


@pytest.fixture
def hierarchy(store) -> Iterator[Hierarchy]:
    opened = store.open()
    yield opened
    opened.close()


@pytest.fixture
def lease(hierarchy, store):
    return hierarchy.lease(store.site_id)


@pytest.fixture
def root_of(server):
    """Build a root over a key, as the administrator would with these settings."""

    def build(key_id: str, **options) -> AzureVaultRoot:
        chosen = {
            "credential": server.credential("ckfs"),
            "connection_verify": server.ca_path,
            "deadline_seconds": 2,
            "connect_seconds": 1,
            "read_seconds": 1,
        }
        return AzureVaultRoot(key_id, **(chosen | options))

    return build
