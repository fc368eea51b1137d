"""The process: durable over kill and restart, private on disk, its log, its limits, its manners."""

import contextlib
import json
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.keyvault.keys.crypto import KeyWrapAlgorithm

from tests.vault_server import VaultServer, run_cli, vault_server

pytestmark = pytest.mark.vault

OAEP = KeyWrapAlgorithm.rsa_oaep_256


@pytest.fixture
def own(tmp_path: Path) -> Iterator[VaultServer]:
    with vault_server(tmp_path / "site", ("kv1",)) as server:
        yield server


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_everything_is_there_after_a_restart(own: VaultServer, how: str) -> None:
    client = own.key_client("kv1")
    key = client.create_rsa_key("first", tags={"a": "b"})
    wrapped = own.crypto_client(key).wrap_key(OAEP, b"k").encrypted_key
    client.create_ec_key("gone")
    client.begin_delete_key("gone").wait()
    client.create_ec_key("purged")
    client.begin_delete_key("purged").wait()
    client.purge_deleted_key("purged")
    client.update_key_properties("first", enabled=True, tags={"c": "d"})
    port = own.running.port
    if how == "kill":
        assert own.kill() == -signal.SIGKILL
        own.serve_options = ("--port", str(port))
        own.start()
    else:
        own.restart()
    again = own.key_client("kv1")
    assert again.get_key("first").id == key.id
    assert again.get_key("first").properties.tags == {"c": "d"}
    assert own.crypto_client(key.id).unwrap_key(OAEP, wrapped).key == b"k"
    assert again.get_deleted_key("gone").name == "gone"
    with pytest.raises(ResourceNotFoundError):
        again.get_deleted_key("purged")


def test_what_was_acknowledged_before_a_kill_is_there(own: VaultServer) -> None:
    client = own.key_client("kv1", retry_total=0)
    client.create_ec_key("warm")
    acknowledged: list[str] = []

    def create_until_it_ends() -> None:
        with contextlib.suppress(AzureError):
            for number in range(10_000):
                key = client.create_ec_key(f"k{number}")
                acknowledged.append(key.id)

    worker = threading.Thread(target=create_until_it_ends)
    worker.start()
    while len(acknowledged) < 20:
        time.sleep(0.005)
    port = own.running.port
    own.kill()
    worker.join()
    own.serve_options = ("--port", str(port))
    own.start()
    again = own.key_client("kv1")
    assert len(acknowledged) >= 20
    assert [again.get_key(f"k{number}").id for number in range(len(acknowledged))] == acknowledged


def test_sigterm_does_not_wait_for_a_hanging_request(own: VaultServer) -> None:
    client = own.key_client("kv1", retry_total=0)
    client.create_ec_key("a")
    own.admin.set_fault("hang", vault="kv1")
    ended: list[str] = []

    def ask() -> None:
        try:
            client.get_key("a")
        except AzureError as error:
            ended.append(type(error).__name__)

    worker = threading.Thread(target=ask)
    worker.start()
    time.sleep(0.2)
    started = time.monotonic()
    assert own.stop() == 0
    assert time.monotonic() - started < 5
    worker.join()
    assert ended


def test_the_folder_is_private_and_shows_no_key(own: VaultServer) -> None:
    own.key_client("kv1").create_rsa_key("secret")
    for path in own.folder.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.name != "server.log":
            assert mode == (0o700 if path.is_dir() else 0o600), path
    stored = (own.folder / "vaults" / "kv1" / "keys" / "secret.key").read_bytes()
    # A PKCS#8 key of 2048 bits would start so; the algorithm's identifier is in all of them.
    assert bytes.fromhex("2a864886f70d010101") not in stored


def test_a_key_file_that_was_changed_or_moved_is_not_served(own: VaultServer) -> None:
    own.key_client("kv1").create_ec_key("one")
    own.key_client("kv1").create_ec_key("two")
    own.stop()
    keys = own.folder / "vaults" / "kv1" / "keys"
    good = (keys / "one.key").read_bytes()
    for wrong in (
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:40],
        b"",
        (keys / "two.key").read_bytes(),
    ):
        (keys / "one.key").write_bytes(wrong)
        done = run_cli("serve", str(own.folder), check=False)
        assert done.returncode == 3
        assert "key one" in done.stderr
        assert done.stderr.count("\n") == 1
    (keys / "one.key").write_bytes(good)
    own.start()
    assert own.key_client("kv1").get_key("one").name == "one"


def test_a_port_that_is_taken_is_named_in_one_line(own: VaultServer, tmp_path: Path) -> None:
    other = tmp_path / "other"
    run_cli("init", str(other), "--vault", "kv1")
    done = run_cli("serve", str(other), "--port", str(own.running.port), check=False)
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (other / "running.json").exists()


def test_one_process_serves_a_folder(own: VaultServer) -> None:
    done = run_cli("serve", str(own.folder), check=False)
    assert done.returncode == 4
    assert "in use" in done.stderr


def test_sigterm_ends_it_cleanly(own: VaultServer) -> None:
    own.key_client("kv1").create_ec_key("a")
    assert own.stop() == 0
    assert not (own.folder / "running.json").exists()
    assert own.log() == ""
    assert run_cli("env", str(own.folder), check=False).returncode == 4


def test_the_audit_log_has_the_services_shape(own: VaultServer) -> None:
    key = own.key_client("kv1").create_rsa_key("audited")
    crypto = own.crypto_client(key)
    wrapped = crypto.wrap_key(OAEP, b"k").encrypted_key
    crypto.unwrap_key(OAEP, wrapped)
    own.key_client("kv1").update_key_properties("audited", enabled=False)
    with pytest.raises(HttpResponseError):
        crypto.unwrap_key(OAEP, wrapped)
    lines = own.audit("kv1")
    assert [line["operationName"] for line in lines] == [
        "Authentication",
        "KeyCreate",
        "KeyUnwrap",
        "KeyUpdate",
        "KeyUnwrap",
    ]
    good, bad = lines[2], lines[4]
    assert set(good) == {
        *("time", "resourceId", "operationName", "operationVersion", "category", "resultType"),
        *("resultSignature", "resultDescription", "durationMs", "callerIpAddress"),
        *("correlationId", "identity", "properties"),
    }
    assert good["category"] == "AuditEvent"
    assert good["resultSignature"] == "OK"
    assert good["callerIpAddress"] == "127.0.0.1"
    assert good["identity"]["claim"]["appid"] == own.client().client_id
    assert good["properties"]["id"] == f"{key.id}/unwrapkey"
    assert good["properties"]["requestUri"].startswith(f"{key.id}/unwrapkey?api-version=")
    assert good["properties"]["httpStatusCode"] == 200
    assert bad["resultSignature"] == "Forbidden"
    assert bad["properties"]["httpStatusCode"] == 403
    assert "disabled key" in bad["resultDescription"]


def test_limits(own: VaultServer) -> None:
    own.admin.configure("kv1", throttle="5")
    client = own.key_client("kv1")
    key = client.create_rsa_key("limited")
    crypto = own.crypto_client(key)
    wrapped = crypto.wrap_key(OAEP, b"k").encrypted_key
    for _ in range(4):
        crypto.unwrap_key(OAEP, wrapped)
    for _ in range(3):
        with pytest.raises(HttpResponseError) as caught:
            crypto.unwrap_key(OAEP, wrapped)
        assert caught.value.status_code == 429
        assert caught.value.error.code == "Throttled"
    own.admin.advance_clock(11)
    assert crypto.unwrap_key(OAEP, wrapped).key == b"k"


def test_the_services_limit_on_creation(own: VaultServer) -> None:
    own.admin.configure("kv1", throttle="service")
    client = own.key_client("kv1", retry_total=0)
    for number in range(20):
        client.create_ec_key(f"key-{number}")
    with pytest.raises(HttpResponseError, match="VaultRequestTypeLimitReached"):
        client.create_ec_key("one-too-many")


def test_administration_of_a_stopped_installation(own: VaultServer) -> None:
    own.stop()
    folder = str(own.folder)
    made = json.loads(run_cli("principal", "add", folder, "ckfs").stdout)
    run_cli("grant", folder, "kv1", "ckfs", "get", "WRAPKEY")
    shown = json.loads(run_cli("show", folder).stdout)
    assert shown["vaults"][0]["access_policies"]["ckfs"] == ["get", "wrapKey"]
    assert made["client_id"] in {each["client_id"] for each in shown["principals"]}
    for wrong in (
        ["grant", folder, "kv1", "ckfs", "fly"],
        ["grant", folder, "kv9", "ckfs", "get"],
        ["grant", folder, "kv1", "nobody", "get"],
        ["principal", "add", folder, "ckfs"],
        ["init", folder, "--vault", "kv1"],
        ["configure", folder, "kv1", "--throttle", "much"],
    ):
        done = run_cli(*wrong, check=False)
        assert done.returncode == 2, wrong
        assert done.stderr.startswith("ckfs-vault: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--vault", "Kv1"],
        ["--vault", "login"],
        ["--vault", "ab"],
        ["--vault", "kv1", "--vault", "kv1"],
        ["--vault", "kv1", "--retention-days", "6"],
        ["--vault", "kv1", "--recovery-level", "Purgeable"],
        ["--vault", "kv1", "--recovery-level", "Recoverable", "--retention-days", "30"],
    ],
)
def test_a_wrong_init_makes_nothing(tmp_path: Path, options: list[str]) -> None:
    done = run_cli("init", str(tmp_path / "site"), *options, check=False)
    assert done.returncode == 2
    assert not (tmp_path / "site").exists()
