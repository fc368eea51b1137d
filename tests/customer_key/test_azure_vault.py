"""The vault root key through the real client, over HTTPS and through the challenge."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from azure.identity import ClientSecretCredential

from keyhierarchy.errors import RootKeyRefused, RootKeyUnavailable, WrappedKeyInvalid
from keyhierarchy.roots.azure_vault import default_credential

pytestmark = pytest.mark.vault

TIK = bytes(range(32))


@pytest.fixture
def name():
    return f"k-{secrets.token_hex(6)}"


@pytest.fixture
def key(server, name):
    return server.key_client("kv1").create_rsa_key(name)


@pytest.fixture
def root(root_of, key):
    return root_of(key.id)


@pytest.fixture
def wrapped(root):
    made = root.wrap(TIK)
    assert root.unwrap(made) == TIK  # through the challenge once
    return made


@pytest.mark.parametrize("size", [2048, 3072, 4096])
@pytest.mark.parametrize(("vault", "hardware"), [("kv1", False), ("kv1", True), ("hsm1", True)])
def test_every_kind_of_rsa_key_wraps_and_opens(server, root_of, name, vault, hardware, size):
    made = server.key_client(vault).create_rsa_key(name, size=size, hardware_protected=hardware)
    root = root_of(made.id)
    wrapped = root.wrap(TIK)
    assert len(wrapped) == size // 8
    assert root.unwrap(wrapped) == TIK
    root.probe()
    facts = root.facts()
    assert (facts.key_type, facts.size) == ("RSA-HSM" if hardware else "RSA", size)
    assert (facts.hardware, facts.managed_hsm) == (hardware, vault == "hsm1")
    assert {"wrapKey", "unwrapKey"} <= set(facts.operations)
    assert facts.enabled
    assert facts.recovery_level.startswith("Recoverable")
    assert (facts.name, facts.version) == (name, made.properties.version)
    root.close()
    assert root.unwrap(wrapped) == TIK


def test_the_default_credential_reads_the_surroundings(server, root_of, key):
    root = root_of(
        key.id,
        credential=lambda: default_credential(
            connection_verify=server.ca_path, disable_instance_discovery=True
        ),
    )
    assert root.unwrap(root.wrap(TIK)) == TIK


def test_an_unwrap_is_one_request_once_the_challenge_is_known(server, root, wrapped):
    before = len(server.audit("kv1"))
    root.unwrap(wrapped)
    assert len(server.audit("kv1")) == before + 1


def test_who_may_not_read_the_key_can_still_unwrap(server, root_of, key, wrapped):
    server.admin.grant("kv1", "ckfs", ["unwrapKey"])
    fresh = root_of(key.id)
    assert fresh.unwrap(wrapped) == TIK
    with pytest.raises(RootKeyRefused, match="get permission") as caught:
        fresh.wrap(TIK)
    assert caught.value.cause == "no-permission"


def test_wrapping_asks_the_service_first_because_the_client_does_not(server, root, name, wrapped):
    server.key_client("kv1").update_key_properties(name, enabled=False)
    for use in (lambda: root.wrap(TIK), lambda: root.unwrap(wrapped)):
        with pytest.raises(RootKeyRefused, match="disabled") as caught:
            use()
        assert caught.value.cause == "key-disabled"


def test_an_expired_key_still_opens_and_wraps_nothing_new(server, root, name, wrapped):
    now = datetime.now(UTC)
    client = server.key_client("kv1")
    client.update_key_properties(name, expires_on=now - timedelta(hours=1))
    assert root.unwrap(wrapped) == TIK
    with pytest.raises(RootKeyRefused) as caught:
        root.wrap(TIK)
    assert caught.value.cause == "key-expired"
    client.update_key_properties(
        name, not_before=now + timedelta(hours=1), expires_on=now + timedelta(hours=2)
    )
    with pytest.raises(RootKeyRefused) as caught:
        root.wrap(TIK)
    assert caught.value.cause == "key-not-yet-valid"


def test_deleted_recovered_and_purged_are_told_apart(server, root, name, wrapped):
    client = server.key_client("kv1")
    client.begin_delete_key(name).wait()
    with pytest.raises(RootKeyRefused, match="can still be recovered") as caught:
        root.unwrap(wrapped)
    assert caught.value.cause == "key-deleted"
    client.begin_recover_deleted_key(name).wait()
    assert root.unwrap(wrapped) == TIK
    client.begin_delete_key(name).wait()
    client.purge_deleted_key(name)
    with pytest.raises(RootKeyRefused) as caught:
        root.unwrap(wrapped)
    assert caught.value.cause == "key-not-found"


def test_keys_that_do_not_suit_are_refused(server, root_of, name):
    client = server.key_client("kv1")
    made = client.create_ec_key(name + "-ec")
    with pytest.raises(RootKeyRefused, match="type EC") as caught:
        root_of(made.id).wrap(TIK)
    assert caught.value.cause == "unsupported-key"
    made = client.create_rsa_key(name + "-ops", key_operations=["unwrapKey", "sign"])
    with pytest.raises(RootKeyRefused, match="does not permit wrapKey") as caught:
        root_of(made.id).wrap(TIK)
    assert caught.value.cause == "operation-forbidden"
    with pytest.raises(RootKeyRefused, match="no version"):
        root_of(made.id.rpartition("/")[0])


def test_another_keys_wrap_and_garbage_do_not_open(server, root_of, root, name, wrapped):
    other = root_of(server.key_client("kv1").create_rsa_key(name + "-2").id)
    for bad in (b"\0" * 256, other.wrap(TIK)):
        with pytest.raises(WrappedKeyInvalid):
            root.unwrap(bad)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("ForbiddenByPolicy", "no-permission"),
        ("ForbiddenByRbac", "no-permission"),
        ("ForbiddenByFirewall", "firewall"),
        ("AccessDenied", "no-permission"),
        ("KeyDisabled", "key-disabled"),
        ("401", "wrong-credentials"),
        ("claims", "wrong-credentials"),
    ],
)
def test_each_denial_is_told_apart_and_asked_once(server, root, wrapped, kind, cause):
    server.admin.set_fault(kind, vault="kv1", operation="unwrapKey")
    with pytest.raises(RootKeyRefused) as caught:
        root.unwrap(wrapped)
    assert (caught.value.cause, caught.value.key_id) == (cause, root.key_id)
    (fault,) = server.admin.faults()
    assert fault.struck <= 3  # the client's own answer to a refused token, and no try of ours


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("drop", "unreachable"),
        ("429", "throttled"),
        ("500", "server-error"),
        ("502", "server-error"),
        ("503", "server-error"),
    ],
)
def test_each_outage_is_told_apart_tried_again_and_bounded(server, root, wrapped, kind, cause):
    server.admin.set_fault(kind, vault="kv1", operation="unwrapKey", count=1)
    assert root.unwrap(wrapped) == TIK
    server.admin.set_fault(kind, vault="kv1", operation="unwrapKey")
    started = time.monotonic()
    with pytest.raises(RootKeyUnavailable) as caught:
        root.unwrap(wrapped)
    assert time.monotonic() - started < 4
    assert caught.value.cause == cause
    (fault,) = server.admin.faults()
    assert 2 <= fault.struck <= 8


def test_retry_after_is_honoured_within_the_deadline(server, root, wrapped):
    server.admin.set_fault("429", vault="kv1", operation="unwrapKey", count=1, retry_after=1)
    started = time.monotonic()
    assert root.unwrap(wrapped) == TIK
    assert time.monotonic() - started >= 1
    server.admin.set_fault("429", vault="kv1", operation="unwrapKey", count=1, retry_after=60)
    with pytest.raises(RootKeyUnavailable) as caught:
        root.unwrap(wrapped)
    assert caught.value.retry_after == 60
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("kind", "seconds"), [("hang", 0), ("slow", 0.3), ("latency", 30)], ids=str
)
def test_nothing_blocks_longer_than_the_deadline(server, root, wrapped, kind, seconds):
    fault = server.admin.set_fault(kind, vault="kv1", seconds=seconds)
    started = time.monotonic()
    with pytest.raises(RootKeyUnavailable) as caught:
        root.unwrap(wrapped)
    assert time.monotonic() - started < 4
    assert caught.value.cause == "timeout"
    server.admin.clear_faults(fault.id)
    assert root.unwrap(wrapped) == TIK  # with a connection of its own


@contextmanager
def silent_listener():
    """Takes connections and never says a word: what a half-open path looks like."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = []
        stop = threading.Event()

        def take() -> None:
            listening.settimeout(0.1)
            while not stop.is_set():
                try:
                    taken.append(listening.accept()[0])
                except TimeoutError:
                    continue

        worker = threading.Thread(target=take)
        worker.start()
        yield listening.getsockname()[1]
        stop.set()
        worker.join()
        for one in taken:
            one.close()


def test_a_peer_that_never_speaks_tls_is_given_up(server, root_of):
    with silent_listener() as port:
        root = root_of(f"https://kv1.vault.test:{port}/keys/k/{'0' * 32}")
        started = time.monotonic()
        with pytest.raises(RootKeyUnavailable) as caught:
            root.unwrap(b"\0" * 256)
        assert time.monotonic() - started < 4
        assert caught.value.cause in {"timeout", "unreachable"}


@pytest.mark.parametrize("kind", ["tls-expired", "tls-untrusted"])
def test_a_certificate_that_is_not_to_be_trusted_is_an_outage(server, root_of, key, wrapped, kind):
    server.admin.set_fault(kind, vault="kv1")
    started = time.monotonic()
    with pytest.raises(RootKeyUnavailable, match="certificate") as caught:
        root_of(key.id).unwrap(wrapped)
    assert caught.value.cause == "untrusted-certificate"
    assert time.monotonic() - started < 1


def test_an_own_ca_must_be_named(server, root_of, key, wrapped):
    with pytest.raises(RootKeyUnavailable) as caught:
        root_of(key.id, connection_verify=True).unwrap(wrapped)
    assert caught.value.cause == "untrusted-certificate"


def test_a_vault_that_is_not_there(server, root_of):
    for host in ("kv1.vault.test:1", "kv1.nowhere.invalid"):
        with pytest.raises(RootKeyUnavailable) as caught:
            root_of(f"https://{host}/keys/k/{'0' * 32}").unwrap(b"\0" * 256)
        assert caught.value.cause == "unreachable"


def test_wrong_credentials_and_a_silent_authority_are_told_apart(server, root_of, key, wrapped):
    client = server.client("ckfs")
    wrong = ClientSecretCredential(
        client.tenant_id,
        client.client_id,
        "not the secret",
        authority=server.running.authority,
        disable_instance_discovery=True,
        connection_verify=server.ca_path,
    )
    with pytest.raises(RootKeyRefused) as caught:
        root_of(key.id, credential=wrong).unwrap(wrapped)
    assert caught.value.cause == "wrong-credentials"
    assert "not the secret" not in str(caught.value)
    server.admin.set_fault("hang", vault="login")
    with pytest.raises(RootKeyUnavailable) as caught:
        root_of(key.id, credential=server.credential("ckfs")).unwrap(wrapped)
    assert caught.value.cause == "timeout"
    server.admin.clear_faults()
    unreachable = server.credential("ckfs", authority="https://login.vault.test:1", retry_total=0)
    with pytest.raises(RootKeyUnavailable) as caught:
        root_of(key.id, credential=unreachable).unwrap(wrapped)
    assert caught.value.cause == "no-token"


def test_a_vault_that_answers_for_another_version_is_not_believed(server, root_of, key, wrapped):
    server.admin.set_fault("wrong-kid", vault="kv1", operation="get")
    with pytest.raises(RootKeyUnavailable) as caught:
        root_of(key.id).unwrap(wrapped)
    assert caught.value.cause == "not-a-vault"


def test_a_vault_that_opens_something_else_does_not_pass_a_probe(server, root):
    root.probe()
    server.admin.set_fault("wrong-value", vault="kv1", operation="unwrapKey", count=1)
    with pytest.raises(WrappedKeyInvalid) as caught:
        root.probe()
    assert caught.value.cause == "wrong-key"


def test_an_error_names_the_request_as_the_vaults_log_does(server, root, wrapped):
    server.admin.set_fault("KeyDisabled", vault="kv1", operation="unwrapKey")
    with pytest.raises(RootKeyRefused) as caught:
        root.unwrap(wrapped)
    assert any(str(record) for record in server.audit("kv1"))
    request = str(caught.value).split("request ")[1].split(")")[0]
    assert request in (server.folder / "vaults" / "kv1" / "audit.jsonl").read_text()


def test_many_threads_may_ask_at_once(root, wrapped):
    opened: list[bytes] = []
    threads = [threading.Thread(target=lambda: opened.append(root.unwrap(wrapped))) for _ in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [TIK] * 3


def test_azure_is_loaded_only_when_a_vault_is_asked():
    code = (
        "import sys, keyhierarchy.hierarchy, keyhierarchy.roots.azure_vault as room;"
        "room.AzureVaultRoot('https://kv.vault.azure.net/keys/k/' + '0' * 32);"
        "sys.exit(any(name.split('.')[0] in {'azure', 'msal', 'requests'} for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
