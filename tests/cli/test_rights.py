"""Who may not, where there is no FUSE, and what cannot be unmounted."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.asking import (
    NOBODY,
    as_user,
    in_own_namespace,
    refused,
    snapshot,
    with_fuse,
)
from tests.mounted.driving import CKFS, mountpoints_below, processes_with, until

pytestmark = pytest.mark.mounted


# Rights


def test_another_user_may_not(made, mounting):
    before = snapshot(made.backing, made.state)
    refused(as_user(made, *mounting, made.store, made.mountpoint), 16, "ermi")
    refused(as_user(made, "init", made.backing / "new"), 16, "ermi")
    refused(as_user(made, "info", made.store), 16, "ermi")
    assert snapshot(made.backing, made.state) == before
    made.mount()
    refused(as_user(made, "umount", made.mountpoint), 16)
    assert made.is_mounted()


def test_another_user_and_keys_of_root(made, mounting):
    # The store is readable, the keys are not.
    for place in (made.store, *made.store.rglob("*")):
        os.chown(place, NOBODY, NOBODY)
    os.chown(made.mountpoint, NOBODY, NOBODY)
    arguments = (*mounting, made.store, made.mountpoint)
    with_fuse(made, lambda: refused(as_user(made, *arguments), 16, "run as its owner"))


def test_a_store_of_an_ordinary_user(unmade):
    with_fuse(unmade, lambda: live_as_an_ordinary_user(unmade))


def live_as_an_ordinary_user(unmade):
    for place in (unmade.backing, unmade.folder, unmade.mountpoint):
        os.chown(place, NOBODY, NOBODY)

    def ckfs(*arguments):
        done = as_user(unmade, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ckfs("init", unmade.store)
    assert stat.S_IMODE(unmade.store.stat().st_mode) == 0o700
    ckfs("mount", unmade.store, unmade.mountpoint)
    script = f"""
import os
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); os.chdir({str(unmade.mountpoint)!r})
open("file", "w").write("content"); os.mkdir("folder"); os.chmod("file", 0o400)
os.rename("file", "folder/renamed"); os.setxattr("folder", "user.k", b"v")
assert open("folder/renamed").read() == "content"
os.symlink("x", "link"); os.link("folder/renamed", "second"); os.mkfifo("fifo")
os.chmod("second", 0o000); os.rename("second", "third"); os.unlink("third")
"""
    try:
        subprocess.run([sys.executable, "-c", script], check=True)
        assert ckfs("status").count(str(unmade.mountpoint)) == 1
        refused(as_user(unmade, "mount", unmade.store, unmade.mountpoint), 19)
    finally:
        ckfs("umount", unmade.mountpoint)
    unmade.wait_gone()
    config = Path("/etc/fuse.conf")
    if not (config.exists() and "\nuser_allow_other" in "\n" + config.read_text()):
        done = as_user(unmade, "mount", "-o", "allow_other", unmade.store, unmade.mountpoint)
        refused(done, 16, "user_allow_other")


def test_a_device_that_is_roots_alone(unmade):
    if os.stat("/dev/fuse").st_mode & 0o006:
        os.mknod(unmade.folder / "fuse", stat.S_IFCHR | 0o600, os.makedev(10, 229))
        device = unmade.folder / "fuse"
    else:
        device = "/dev/fuse"
    for place in (unmade.backing, unmade.folder, unmade.mountpoint):
        os.chown(place, NOBODY, NOBODY)

    def work():
        assert as_user(unmade, "init", unmade.store).returncode == 0
        refused(as_user(unmade, "mount", unmade.store, unmade.mountpoint), 22, "chmod")

    in_own_namespace(work, device)


# FUSE


HIDE = 'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"'
SPOIL = 'mount --bind "$FAKE" /dev/fuse && exec "$@"'


@pytest.mark.parametrize(("how", "words"), [(HIDE, ["modprobe"]), (SPOIL, ["/dev/fuse"])])
def test_no_fuse(made, mounting, how, words):
    fake = made.folder / "fake"
    fake.write_bytes(b"")
    before = snapshot(made.backing, made.state)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", how, "sh", CKFS, *mounting, made.store, made.mountpoint],
        env={**made.environment, "FAKE": str(fake)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    refused(done, 22, *words)
    assert snapshot(made.backing, made.state) == before
    made.mount()


# umount


def test_umount_of_what_is_not_mounted(made):
    for place in (made.mountpoint, made.folder / "nowhere", made.store, Path("/")):
        refused(made.run("umount", place, check=False), 23, "ckfs status")


def test_umount_of_another_filesystem(made):
    subprocess.run(["mount", "-t", "tmpfs", "none", made.mountpoint], check=True)
    try:
        refused(made.run("umount", made.mountpoint, check=False), 23)
        assert made.is_mounted()
    finally:
        subprocess.run(["umount", made.mountpoint], check=True)


def test_umount_while_in_use(made):
    made.mount()
    with (made.mountpoint / "file").open("wb") as file:
        done = made.run("umount", made.mountpoint, check=False)
        refused(done, 24, str(os.getpid()), "--lazy")
        file.write(b"still works")
    made.run("umount", "--lazy", made.mountpoint)
    made.wait_gone()


def test_a_lazy_umount_while_in_use(made):
    made.mount()
    file = (made.mountpoint / "file").open("wb")
    made.run("umount", "--lazy", made.mountpoint)
    assert not made.is_mounted()
    file.write(b"written after the umount")
    file.close()
    made.wait_gone()
    made.mount()
    assert (made.mountpoint / "file").read_bytes() == b"written after the umount"


def test_two_mounts_at_once_and_only_one_wins(made):
    # Both start before either holds the store.
    second = made.folder / "second"
    second.mkdir()
    running = [
        subprocess.Popen(
            [CKFS, "mount", "--log-file", made.log_place, made.store, place],
            env=made.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in (made.mountpoint, second)
    ]
    said = [process.communicate(timeout=60)[1] for process in running]
    assert sorted(process.returncode for process in running) == [0, 17], said
    (mounted,) = mountpoints_below(made.folder)
    made.run("umount", mounted)
    until(lambda: not processes_with(mounted), "the driver ends")


def test_the_command_line_does_not_follow_a_log_that_is_a_symlink(made):
    victim = made.folder / "victim"
    victim.write_bytes(b"kept")
    made.log_place.symlink_to(victim)
    done = made.run("mount", "--log-file", made.log_place, made.store, made.mountpoint, check=False)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert victim.read_bytes() == b"kept"
    made.log_place.unlink()


def test_prctl_keeps_the_drivers_memory_to_itself(made):
    made.mount()
    (pid,) = made.pids()
    limits = Path(f"/proc/{pid}/limits").read_text()
    (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1, "the test itself may be dumped"
    assert Path(f"/proc/{pid}/mem").stat().st_uid == 0
