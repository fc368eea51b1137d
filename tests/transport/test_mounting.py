"""How a mount begins and ends: odd places, options, read-ahead, and ends in the middle of work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from fsdriver import mountoptions
from fsdriver.transport import attachment
from tests.cli.asking import NOBODY, as_user, with_fuse
from tests.mounted.driving import Driven, detach, fails, unmount, until
from tests.mounted.driving import as_user as work_as

pytestmark = pytest.mark.mounted


def options_of(place: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    (found,) = (line for line in lines if line.split(" ")[4] == str(place))
    return found.split(" ")[5].split(",") + found.rpartition(" ")[2].split(",")


def read_ahead_kb(place: Path) -> int:
    status = place.stat()
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    return int(Path(f"/sys/class/bdi/{device}/read_ahead_kb").read_text())


# Places and options


class Odd(Driven):
    """A mount point with all that options and tables of mounts have to quote, and no UTF-8."""

    @property
    def mountpoint(self) -> Path:
        return self.folder / os.fsdecode(b"a, b\\c\nd\te \"'\xff")


def test_a_mount_point_of_any_name(made):
    odd = Odd(made.folder / "odd", made.backing, made.extra)
    odd.state.parent.mkdir(exist_ok=True)
    made.state.rename(odd.state)
    mounted = odd.mount()
    try:
        (mounted / "file").write_bytes(b"content")
        assert os.listdir(mounted) == ["file"]
        assert read_ahead_kb(mounted) == attachment.READ_AHEAD >> 10
    finally:
        odd.run("umount", mounted)
    odd.wait_gone()
    odd.state.rename(made.state)
    assert not odd.refusals()


def test_an_ordinary_user_mounts_by_fusermount(made):
    def live():
        for place in (made.backing, made.folder, *made.folder.rglob("*"), *made.backing.rglob("*")):
            os.chown(place, NOBODY, NOBODY)
        place = made.mountpoint
        done = as_user(made, "mount", "--transport", "wire", made.store, place)
        assert done.returncode == 0, done.stderr
        script = f"""
import os
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); os.chdir({str(place)!r})
open("file", "wb").write(b"x" * 300_000); os.chmod("file", 0o400)
assert open("file", "rb").read() == b"x" * 300_000
try: open("file", "r+b")
except PermissionError: pass
else: raise AssertionError("permission bits are not looked at")
device = os.stat(".").st_dev
known = f"/sys/class/bdi/{{os.major(device)}}:{{os.minor(device)}}/read_ahead_kb"
assert int(open(known).read()) == 128, "not an ordinary user's to raise"
"""
        try:
            subprocess.run([sys.executable, "-c", script], check=True)
            assert {"default_permissions", "nosuid", "nodev"} <= set(options_of(place))
            with fails(13):  # root is another user here
                os.listdir(place)
        finally:
            done = as_user(made, "umount", place)
        assert done.returncode == 0, done.stderr
        made.wait_gone()

    with_fuse(made, live)


def test_who_looks_at_permission_bits(made):
    """Where only root may enter: nobody. Where others may: the kernel."""
    made.mount()
    assert "default_permissions" not in options_of(made.mountpoint)
    made.remount("-o", "allow_other")
    assert {"default_permissions", "allow_other"} <= set(options_of(made.mountpoint))
    made.mountpoint.chmod(0o755)
    (made.mountpoint / "secret").write_bytes(b"x")
    (made.mountpoint / "secret").chmod(0o600)

    def look():
        with fails(13):
            (made.mountpoint / "secret").read_bytes()

    work_as(NOBODY, look)


def test_contradicting_options_allow_less(monkeypatch):
    seen = []

    class Libc:
        def mount(self, _source, _target, _kind, flags, _data):
            seen.append(flags.value)
            return 0

    monkeypatch.setattr(attachment.ctypes, "CDLL", lambda *_one, **_two: Libc())
    for options in (["suid", "nosuid"], ["nosuid", "suid"], ["rw", "ro"], ["ro", "rw"]):
        os.close(attachment.attach("/", options, "source"))
    assert seen == [6, 6, 7, 7]
    os.close(attachment.attach("/", ["suid", "dev", "exec"], "source"))
    assert seen[-1] == 0


def test_options_ask_for_permission_bits_where_others_may_enter(monkeypatch):
    for uid, texts, expected in ((0, [], False), (0, ["allow_other"], True), (1000, [], True)):
        monkeypatch.setattr(mountoptions.os, "geteuid", lambda uid=uid: uid)
        found = mountoptions.parse(texts).kernel
        assert ("default_permissions" in found) == expected


# Ends


HAMMER = """
import os, sys
folder, number = sys.argv[1], 0
while True:
    path = f"{folder}/file"
    with open(path + ".new", "wb") as file:
        file.write(b"%d" % number * 5000)
        if not number % 7:
            os.fsync(file.fileno())
    os.rename(path + ".new", path)
    os.write(1, b"%d\\n" % number)
    number += 1
"""


def test_a_driver_that_is_told_to_end_under_load(made):
    """Whoever is in the middle of something gets an answer or an error, and nobody hangs."""
    made.mount()
    clients = []
    for name in "abcd":
        (made.mountpoint / name).mkdir()
        command = [sys.executable, "-c", HAMMER, made.mountpoint / name]
        # Unbuffered: `communicate` knows nothing of lines that `readline` would have read ahead.
        clients.append(
            subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )
    try:
        for client in clients:
            for _line in range(10):
                client.stdout.readline()
        (driver,) = made.pids()
        os.kill(driver, signal.SIGTERM)
        said = [client.communicate(timeout=30)[0].split() for client in clients]
    finally:
        for client in clients:
            client.kill()
    made.wait_gone()
    assert not made.is_mounted()
    assert all(client.returncode for client in clients)
    made.mount()
    for name, numbers in zip("abcd", said, strict=True):
        found = (made.mountpoint / name / "file").read_bytes()
        # Of what was answered, the last; or the one after it, whose answer did not come.
        last = int(numbers[-1]) if numbers else 9
        assert found in (b"%d" % last * 5000, b"%d" % (last + 1) * 5000)


def test_a_connection_that_is_cut_off(made):
    """As an administrator does it: everybody gets an error, and the driver ends by itself."""
    mounted = made.mount()
    connections = made.folder / "connections"
    connections.mkdir()
    file = (mounted / "file").open("wb", buffering=0)
    try:
        with fails(16):
            unmount(mounted)
        file.write(b"before")
        number = os.minor(mounted.stat().st_dev)
        subprocess.run(["mount", "-t", "fusectl", "none", connections], check=True)
        try:
            (connections / str(number) / "abort").write_text("1")
        finally:
            unmount(connections)
        with pytest.raises(OSError, match=r"not connected|aborted"):
            file.write(b"after")
    finally:
        with suppress(OSError):
            file.close()
    made.wait_gone()
    if made.is_mounted():
        detach(mounted)
    made.mount()
    assert (mounted / "file").read_bytes() == b"before"


# Clients that end in the middle


READER = "import sys\nopen(sys.argv[1], 'rb', 0).read()\nprint('whole')"
SYNCER = """
import os, sys
file = open(sys.argv[1] + str(os.getpid()), "wb", 0)
while True:
    file.write(b"x" * 100_000)
    os.fsync(file.fileno())
"""


def test_clients_that_are_ended_in_the_middle(made):
    mounted = made.mount()
    content = os.urandom(1 << 20) * 48
    (mounted / "large").write_bytes(content)
    with (mounted / "large").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    for script, path in ((READER, "large"), (SYNCER, "synced")):
        for moment, how in ((0.06, signal.SIGINT), (0.09, signal.SIGKILL)):
            client = subprocess.Popen(
                [sys.executable, "-S", "-c", script, mounted / path],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # A moment in its life, not a wait for something: it may be anywhere by then.
            threading.Event().wait(moment)
            client.send_signal(how)
            client.wait(timeout=20)
    until(lambda: made.status()["handles"] <= 1, "what they had open is given back")
    assert (mounted / "large").read_bytes() == content
    (mounted / "after").write_bytes(b"x")
