"""A mounted, busy store through the life of its policy: real mount, real clients, real vaults."""

from __future__ import annotations

import errno
import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.vault_server import vault_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.vault,
    pytest.mark.mounted,
    pytest.mark.skipif(
        not os.path.exists("/dev/fuse") or os.geteuid() != 0, reason="mounting takes root and FUSE"
    ),
]

PROBE_SECONDS = 1
BOUND_SECONDS = 60.0
"""What is promised; the probe's interval, a call's deadline and the watch's second are less."""


class Scene:
    """One store, mounted, in reach of two vaults."""

    def __init__(self, folder: Path, server) -> None:
        self.folder = folder
        self.server = server
        self.store, self.files = folder / "store", folder / "files"
        self.files.mkdir()
        self.environment = {
            **os.environ,
            **server.environment(),
            "CKFS_STATE_DIR": str(folder / "state"),
            "CKFS_AVAILABILITY_DIR": str(folder / "availability"),
        }

    def run(self, module: str, *arguments: str | Path, check: bool = True):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "keyhierarchy.vault.resolve", module),
                *map(str, arguments),
            ],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def ckfs(self, *arguments, check=True):
        return self.run("fsdriver.cli", *arguments, check=check)

    def keys(self, *arguments, check=True):
        return self.run("keyhierarchy.cli", *arguments, check=check)

    def status(self):
        return json.loads(os.getxattr(self.files, b"user.ckfs.status"))

    def make_key(self, vault: str, name: str = "root") -> str:
        operations = ["wrapKey", "unwrapKey"]
        return self.server.key_client(vault).create_rsa_key(name, key_operations=operations).id

    def enable(self, vault: str, *, enabled: bool, name: str = "root") -> None:
        self.server.key_client(vault).update_key_properties(name, enabled=enabled)

    def register(self) -> None:
        self.keys(
            *("policy", "register", self.store, "--yes"),
            *("--primary-uri", self.make_key("kv1"), "--secondary-uri", self.make_key("kv2")),
        )


def until(holds, what: str, seconds: float = BOUND_SECONDS) -> float:
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - start


def reads(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError as error:
        assert error.errno in (errno.EKEYREVOKED, errno.ENOKEY), error
        return False
    return True


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    options = ("--recovery-level", "Recoverable+ProtectedSubscription")
    folder = tmp_path_factory.mktemp("vaults") / "site"
    with vault_server(folder, ("kv1", "kv2"), init_options=options) as running:
        yield running


@pytest.fixture
def scene(tmp_path, server) -> Iterator[Scene]:
    made = Scene(tmp_path, server)
    made.keys(
        *("vault", "set", f"ca_file={server.ca_path}", f"authority_ca_file={server.ca_path}"),
        *(f"authority_host={server.running.authority}", "disable_instance_discovery=true"),
        *(f"probe_seconds={PROBE_SECONDS}", "lease_seconds=40", "opening_deadline_seconds=12"),
        "call_deadline_seconds=10",
    )
    made.ckfs("init", made.store)
    made.ckfs("mount", made.store, made.files)
    try:
        yield made
    finally:
        server.admin.clear_faults()
        done = made.ckfs("umount", "--lazy", made.files, check=False)
        until(lambda: not os.path.ismount(made.files), "the mount is gone")
        assert done.returncode == 0, done.stderr


class Load:
    """Writers and readers that note every success and every failure with its time.

    Its threads are daemons: a test that fails does not wait for them, and the mount goes anyway.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last_read = 0.0
        self.refused: set[int] = set()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=one, daemon=True) for one in (self._write, self._read)
        ]
        folder.joinpath("shared").write_bytes(b"s" * 300_000)
        for thread in self._threads:
            thread.start()

    def _write(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                self.folder.joinpath(f"w{number % 20}").write_bytes(b"w" * 5000)
            except OSError as error:
                self.refused.add(error.errno)
                self._stop.wait(0.005)

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                with self.folder.joinpath("shared").open("rb", buffering=0) as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    while chunk := file.read(65536):
                        assert not chunk.strip(b"s")
                self.last_read = time.monotonic()
            except OSError as error:
                self.refused.add(error.errno)
                self._stop.wait(0.005)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


MAPPED = """
import mmap, os, sys, time
file = os.open(sys.argv[1], os.O_RDONLY)
page = mmap.mmap(file, 0, prot=mmap.PROT_READ)
assert page[0] == 115
print("mapped", flush=True)
while True:
    page[0]
    time.sleep(0.01)
"""


def test_register_on_a_busy_mount_and_nothing_service_managed_is_left(scene):
    load = Load(scene.files)
    (scene.files / "old").write_bytes(b"written under the service-managed root")
    scene.register()
    (scene.files / "new").write_bytes(b"written after")
    until(
        lambda: all(site["site_key_generation"] == 2 for site in scene.status()["sites"]),
        "the mount takes up the new site key",
    )
    (scene.files / "newest").write_bytes(b"written under the new site key")
    load.end()
    assert not load.refused
    keystore = json.loads((scene.store / ".ckfs" / "keystore.json").read_text())
    wraps = [
        wrap["slot"]
        for section in keystore["sections"]
        for tik in section["policy"]["tik_generations"]
        for wrap in tik["wraps"]
    ]
    assert sorted(wraps) == ["availability", "primary", "secondary", "successor"]
    shown = scene.keys("policy", "show", scene.store).stdout
    assert "Registered, 100% done" in shown
    scene.ckfs("umount", scene.files)
    # The service-managed root is of no use any more: the store opens without it.
    for key in (scene.folder / "state" / "service-keys").glob("*.key"):
        key.unlink()
    scene.ckfs("mount", scene.store, scene.files)
    assert (scene.files / "old").read_bytes() == b"written under the service-managed root"
    assert (scene.files / "newest").read_bytes() == b"written under the new site key"


def test_a_revocation_at_the_vault_stops_everything_within_the_bound(scene, record_property):
    scene.register()
    folder = scene.files / "folder"
    folder.mkdir()
    load = Load(folder)
    held = os.open(folder / "shared", os.O_RDONLY)
    mapped = subprocess.Popen(
        [sys.executable, "-c", MAPPED, folder / "shared"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert mapped.stdout.readline() == "mapped\n"
        for vault in ("kv1", "kv2"):
            scene.enable(vault, enabled=False)
        disabled = time.monotonic()
        until(lambda: not reads(folder / "shared"), "reads stop")
        # The mapping dies with the pages that the kernel had to drop.
        assert mapped.wait(BOUND_SECONDS) == -signal.SIGBUS
        locked = time.monotonic()
        measured = load.last_read - disabled
        assert measured < BOUND_SECONDS
        for refused in (
            lambda: os.pread(held, 10, 0),
            lambda: os.listdir(folder),
            lambda: os.stat(folder / "shared"),
            lambda: os.open(folder / "new", os.O_CREAT | os.O_WRONLY),
            lambda: os.mkdir(folder / "d"),
        ):
            with pytest.raises(OSError) as caught:  # noqa: PT011 its errno is compared
                refused()
            assert caught.value.errno == errno.EKEYREVOKED
        assert load.last_read < locked
        status = scene.status()
        assert not any(site["lease_valid"] for site in status["sites"])
        for vault in ("kv1", "kv2"):
            scene.enable(vault, enabled=True)
        until(lambda: reads(folder / "shared"), "reads go on without a remount")
        assert os.pread(held, 3, 0) == b"sss"
        with mmap.mmap(held, 0, prot=mmap.PROT_READ) as again:
            assert again[0] == ord("s")
    finally:
        load.end()
        mapped.kill()
        mapped.wait()
        mapped.stdout.close()
        os.close(held)
    assert load.refused <= {errno.EKEYREVOKED}
    record_property("seconds_to_the_last_read", round(measured, 2))


def test_one_vault_down_is_bridged_and_said(scene):
    scene.register()
    (scene.files / "f").write_bytes(b"content")
    scene.server.admin.set_fault("503", vault="kv1", operation="*")
    degraded = lambda: "unavailable" in json.dumps(scene.status())  # noqa: E731
    until(degraded, "the status says that a root key does not answer")
    assert reads(scene.files / "f")
    assert all(site["lease_valid"] for site in scene.status()["sites"])


def kill_and_run_again(scene: Scene, command: list[str], after: float) -> None:
    """SIGKILL a verb so many seconds after its first audit record, then give it again."""
    logs = list((scene.folder / "state" / "stores").glob("*/audit.log"))
    before = sum(log.stat().st_size for log in logs)
    killed = subprocess.Popen(
        [sys.executable, "-m", "keyhierarchy.vault.resolve", "keyhierarchy.cli", *command],
        env=scene.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(
        lambda: sum(log.stat().st_size for log in logs) > before or killed.poll() is not None,
        "the verb has begun",
    )
    with suppress(subprocess.TimeoutExpired):
        killed.wait(after)
    killed.kill()
    killed.wait()
    again = scene.keys(*command, check=False)
    assert again.returncode in (0, 30), again.stderr  # 30: it had been done


@pytest.mark.crash
@pytest.mark.parametrize("after", [0.05, 0.3, 0.6])
def test_a_killed_registration_is_finished_by_running_it_again(scene, after):
    load = Load(scene.files)
    keys = ("--primary-uri", scene.make_key("kv1"), "--secondary-uri", scene.make_key("kv2"))
    kill_and_run_again(scene, ["policy", "register", str(scene.store), "--yes", *keys], after)
    load.end()
    assert not load.refused
    assert "Registered, 100% done" in scene.keys("policy", "show", scene.store).stdout
    assert reads(scene.files / "shared")


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.1, 0.3])
def test_every_other_verb_killed_on_a_busy_mount(scene, after):
    scene.register()
    (scene.files / "old").write_bytes(b"from before")
    load = Load(scene.files)
    store = str(scene.store)
    new = ("--primary-uri", scene.make_key("kv1", "new"))
    new += ("--secondary-uri", scene.make_key("kv2", "new"))
    for command in (
        ["roll", "primary", store, "--yes", "--uri", scene.make_key("kv1")],
        ["roll", "tik", store, "--yes"],
        ["roll", "availability", store, "--yes"],
        ["restore", store, "--yes", "--reason", "a rehearsal", *new],
        ["offboard", store, "--yes"],
    ):
        kill_and_run_again(scene, command, after)
        assert reads(scene.files / "old")
    load.end()
    assert not load.refused
    scene.ckfs("umount", scene.files)
    scene.ckfs("mount", scene.store, scene.files)
    assert (scene.files / "old").read_bytes() == b"from before"
    assert (scene.files / "shared").read_bytes() == b"s" * 300_000
