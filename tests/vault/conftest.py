"""One server for all tests of this folder, left clean by each of them."""

import re
import secrets
from collections.abc import Iterator

import pytest

from tests.vault_server import VaultServer, vault_server


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultServer]:
    folder = tmp_path_factory.mktemp("vault") / "site"
    with vault_server(folder, ("kv1", "kv2"), hsms=("hsm1",)) as server:
        for vault in ("kv1", "kv2", "hsm1"):
            # The client polls every two seconds; a delay of nothing spares the tests that wait.
            server.admin.configure(vault, delete_seconds=0, recover_seconds=0)
        yield server


@pytest.fixture
def server(shared_server: VaultServer) -> Iterator[VaultServer]:
    yield shared_server
    shared_server.admin.clear_faults()
    shared_server.admin.skew_clock(0)
    for vault in ("kv1", "kv2"):
        shared_server.admin.configure(vault, delete_seconds=0, recover_seconds=0, throttle="off")


@pytest.fixture
def key_name(request: pytest.FixtureRequest) -> str:
    """A name of the test's own, because keys stay in the shared vaults."""
    stem = re.sub(r"[^0-9a-zA-Z]+", "-", request.node.name)[:60].strip("-")
    return f"{stem}-{secrets.token_hex(4)}"
