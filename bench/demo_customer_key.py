"""`make demo-customer-key`: the whole life of a data encryption policy on a mounted, busy store.

Two Key Vaults of one's own (ckfs-vault), the real Azure client, and a store with files in it that
a writer keeps busy throughout. Every step checks what it claims.
"""

import os
import pwd
import shutil
import sysconfig
import threading
import time
from pathlib import Path
from typing import Any

from bench.keys_reading import readable
from bench.stage import head, perform, run, show
from bench.vaults import Vaults

ROOM = 1 << 30
DEADLINE_SECONDS = 90.0


class Writer:
    """A program that keeps the mount busy, and counts what failed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self.written = 0
        self.failed = 0
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        while not self._stop.is_set():
            place = self._folder / f"busy-{self.written % 50}"
            try:
                place.write_bytes(str(self.written).encode() * 1000)
                if not place.read_bytes().startswith(str(self.written).encode()):
                    raise SystemExit("demo: what was written is not what was read")
                self.written += 1
            except OSError:
                self.failed += 1
                self._stop.wait(0.01)

    def report(self) -> None:
        """How it fared since the last report."""
        print(
            f"meanwhile the writer wrote and read back {self.written} files, {self.failed} failed"
        )
        if self.failed:
            raise SystemExit("demo: reads and writes were to go on")

    def close(self) -> None:
        """Let it end."""
        self._stop.set()
        self._thread.join()


def _wait(what: str, holds: Any) -> float:
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > DEADLINE_SECONDS:
            raise SystemExit(f"demo: waited {DEADLINE_SECONDS:.0f} s in vain until {what}")
        time.sleep(0.02)
    return time.monotonic() - start


def _keys(*command: str, **options: Any) -> str:
    return run("ckfs-keys", *command, **options)


def _demonstrate(place: Path) -> None:
    vaults = Vaults(place / "vaults")
    try:
        _with_vaults(place, vaults)
    finally:
        vaults.close()


def _with_vaults(place: Path, vaults: Vaults) -> None:
    store, files = place / "store", place / "files"
    files.mkdir()
    os.environ["CKFS_AVAILABILITY_DIR"] = str(place / "availability")

    show("What this host's administrator says of vaults")
    vaults.settings(
        *("probe_seconds=2", "lease_seconds=20", "opening_deadline_seconds=5"),
        *("call_deadline_seconds=3", "purge_waiting_seconds=2"),
    )

    show("A mounted store with files in it, under service-managed keys")
    run("ckfs", "init", str(store), quiet=True)
    run("ckfs", "mount", str(store), str(files))
    run("ckfs", "site", "create", str(files / "alice"), "--workload", "onedrive")
    source = Path(sysconfig.get_paths()["stdlib"])
    for folder in ("json", "email", "unittest"):
        shutil.copytree(source / folder, files / "alice" / folder)
    run("ckfs", "site", "list", str(files))
    sample = files / "alice" / "json" / "decoder.py"
    content = sample.read_bytes()
    writer = Writer(files / "alice")

    show("Two keys in two vaults; are they fit to be root keys?")
    primary = vaults.make("kv-primary", "root")
    secondary = vaults.make("kv-secondary", "root")
    both = ("--primary-uri", primary, "--secondary-uri", secondary)
    _keys("policy", "validate", str(store), *both)

    show("Register: the customer's keys take over while reads and writes go on")
    _keys("policy", "register", str(store), *both, "--dry-run")
    _keys("policy", "register", str(store), *both, "--yes")
    _keys("policy", "show", str(store))
    writer.report()

    show("Roll: one key after the other, no file touched")
    newer = vaults.make("kv-primary", "root")
    _keys("roll", "primary", str(store), "--uri", newer, "--yes")
    _keys("roll", "tik", str(store), "--yes")
    _keys("roll", "availability", str(store), "--yes")
    _keys("keys", "usage", str(store))
    writer.report()
    writer.close()

    _revoked_and_restored(store, vaults, sample, content)
    run("ckfs", "umount", str(files))


def _revoked_and_restored(store: Path, vaults: Vaults, sample: Path, content: bytes) -> None:
    show("Revocation at the vaults: the customer disables both keys")
    for vault in ("kv-primary", "kv-secondary"):
        vaults.enable(vault, "root", enabled=False)
    taken = _wait("the mount stops reading", lambda: not readable(sample))
    print(f"the last successful read was {taken:.1f} s after the keys were disabled")
    run("cat", str(sample), expect=1)
    run("ckfs", "status", lines=6)
    for vault in ("kv-primary", "kv-secondary"):
        vaults.enable(vault, "root", enabled=True)
    back = _wait("the mount reads again", lambda: readable(sample))
    print(f"enabled again: the mount reads after {back:.1f} s, without a remount")

    show("Revocation on this host, at once")
    _keys("revoke", str(store), "--reason", "laptop stolen", "--yes")
    taken = _wait("the mount stops reading", lambda: not readable(sample))
    print(f"the last successful read was {taken:.1f} s after the command")
    _keys("revoke", "--undo", str(store), "--yes")
    _wait("the mount reads again", lambda: readable(sample))

    show("Both vaults lost: the availability key, and two new keys")
    for vault in ("kv-primary", "kv-secondary"):
        vaults.client(vault).begin_delete_key("root").wait()
    primary = vaults.make("kv-primary", "new-root")
    secondary = vaults.make("kv-secondary", "new-root")
    new = ("--primary-uri", primary, "--secondary-uri", secondary)
    _keys("restore", str(store), *new, "--reason", "both keys deleted, ticket 4711", "--yes")
    _wait("the mount reads again", lambda: readable(sample))

    show("Offboard: back to service-managed keys")
    _keys("offboard", str(store), "--yes")
    _keys("policy", "show", str(store))
    if sample.read_bytes() != content:
        raise SystemExit("demo: the file is not what it was")

    show("A backup of the keystore, and which key versions it needs")
    _keys("policy", "register", str(store), *new, "--yes", quiet=True)
    _keys("backup", str(store), str(store.parent / "keystore-backup.json"))

    show("Purge: asked for, approved by a second account, waited for, irreversible")
    reason = ("--reason", "contract ended", "--contact", "dpo@contoso.example")
    _keys("purge", "request", str(store), *reason, "--approver", "nobody", "--yes")
    os.environ["SUDO_UID"] = str(pwd.getpwnam("nobody").pw_uid)  # as sudo says who calls
    _keys("purge", "approve", str(store), "--yes")
    del os.environ["SUDO_UID"]
    for vault in ("kv-primary", "kv-secondary"):
        vaults.enable(vault, "new-root", enabled=False)
    time.sleep(2)  # the waiting period that the administrator has set
    _keys("purge", "execute", str(store), "--yes", expect=31)
    _wait("the mount stops reading", lambda: not readable(sample))

    show("What happened, as the audit log has it")
    head(_keys("audit", "show", str(store), quiet=True), 200)
    _keys("audit", "verify", str(store))


if __name__ == "__main__":
    perform(_demonstrate, room=ROOM)
