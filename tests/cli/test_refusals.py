"""Every bad input: one line that says what to do, its own exit code, and nothing changed."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from tests.mounted.driving import CKFS, mountpoints_below, processes_with, until

pytestmark = pytest.mark.mounted

NOBODY = 65534

# Everything is imported before the rights are given up: another user may not be able to read the
# interpreter that runs the tests.
AS_USER = """
import os, sys
import encodings.idna, fsdriver.cli, fsdriver.mount, fsdriver.inspection, fsdriver.store
import keyhierarchy.creation, keyhierarchy.servicekeys, subprocess, ctypes, json, shutil, traceback
import zoneinfo, typer.rich_utils, click.shell_completion, asyncio.base_events, trio._core._io_epoll
uid = int(sys.argv[1])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
sys.argv = ["ckfs", *sys.argv[2:]]
fsdriver.cli.main()
"""


def as_user(driven, *arguments, uid=NOBODY):
    environment = {**driven.environment, "HOME": str(driven.folder / "home")}
    return subprocess.run(
        [sys.executable, "-c", AS_USER, str(uid), *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
    )


def snapshot(*places: Path) -> dict:
    """What must not change: every entry's kind, mode, owner and bytes, and no new ones."""
    found = {}
    for place in places:
        for folder, folders, names in os.walk(place):
            for name in [".", *folders, *names]:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                content = b""
                # What says who was there last, and the record of what was tried, may grow.
                if stat.S_ISREG(status.st_mode) and not name.endswith(("lock", ".log", ".head")):
                    content = Path(path).read_bytes()
                if not name.endswith((".log", "lock", ".head")):
                    found[path] = (status.st_mode, status.st_uid, content)
    return found


def refused(done, code: int, *words: str) -> None:
    """One line, of these words, without a traceback."""
    said = done.stderr
    assert done.returncode == code, f"{done.returncode}: {said}"
    assert said.startswith("ckfs: "), said
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    assert "unexpected" not in said
    for word in words:
        assert word in said, said
    assert done.stdout == ""


@pytest.fixture(params=["background", pytest.param("foreground", marks=pytest.mark.slow)])
def mounting(request):
    """`ckfs mount` both ways: what refuses must say the same."""
    return ["mount"] if request.param == "background" else ["mount", "-f"]


# The store


def test_no_store(unmade, mounting):
    (unmade.store / "folder").mkdir(parents=True)
    before = snapshot(unmade.backing)
    for store in (unmade.store, unmade.backing / "nowhere"):
        done = unmade.run(*mounting, store, unmade.mountpoint, check=False)
        refused(done, 10, str(store), "no ckfs store", "ckfs init")
    (unmade.backing / "file").write_bytes(b"x")
    done = unmade.run(*mounting, unmade.backing / "file", unmade.mountpoint, check=False)
    refused(done, 10, "no ckfs store")
    (unmade.backing / "file").unlink()
    assert snapshot(unmade.backing) == before
    assert not unmade.state.exists()


def edit(made, **changes):
    place = made.store / ".ckfs" / "store.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))


def test_a_newer_format(made, mounting):
    edit(made, format=2, lowest_reader=2, something="that only the newer one knows")
    before = snapshot(made.store, made.state)
    done = made.run(*mounting, made.store, made.mountpoint, check=False)
    refused(done, 11, "format 2", "newer ckfs")
    assert snapshot(made.store, made.state) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: place.write_bytes(b""),
        lambda place: place.write_bytes(place.read_bytes()[:100]),
        lambda place: place.write_bytes(b"\0" * 300),
        lambda place: place.write_bytes(b"[]"),
        lambda place: place.write_bytes(place.read_bytes().replace(b"encrypted", b"plaintext")),
        lambda place: place.write_bytes(place.read_bytes().replace(b"65536", b"32768")),
        lambda place: place.write_bytes(place.read_bytes().replace(b"65536", b"65535")),
        lambda place: place.write_bytes(place.read_bytes().replace(b'"created"', b'"creates"')),
        lambda place: place.write_bytes(b'{"a":' * 100_000),
    ],
    ids=["empty", "cut", "zeros", "list", "names", "chunk size", "no size", "field", "deep"],
)
def test_a_damaged_store_document(made, damage):
    damage(made.store / ".ckfs" / "store.json")
    before = snapshot(made.store, made.state)
    done = made.run("mount", made.store, made.mountpoint, check=False)
    refused(done, 12, "store.json", "restore it from a backup")
    assert snapshot(made.store, made.state) == before


@pytest.mark.parametrize("field", ["store_id", "site_id"])
def test_a_store_document_of_another_store(made, field):
    place = made.store / ".ckfs" / "store.json"
    known = json.loads(place.read_text())[field]
    edit(made, **{field: known[::-1]})
    before = snapshot(made.store, made.state)
    done = made.run("mount", made.store, made.mountpoint, check=False)
    refused(done, 12)
    assert snapshot(made.store, made.state) == before


def test_a_damaged_keystore(made, mounting):
    place = made.store / ".ckfs" / "keystore.json"
    place.write_bytes(place.read_bytes().replace(b"0", b"1", 5))
    before = snapshot(made.store, made.state)
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 12, "keystore")
    assert snapshot(made.store, made.state) == before
    place.unlink()
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 12, "keystore")


def test_a_missing_or_changed_root_record(made, mounting):
    record = made.store / ".ckfs-dir"
    raw = record.read_bytes()
    record.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 12, ".ckfs-dir")
    record.unlink()
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 12, ".ckfs-dir")


# The keys


def test_a_missing_root_key(made, mounting):
    (key,) = (made.state / "service-keys").glob("*.key")
    key.rename(made.folder / "kept.key")
    before = snapshot(made.store, made.state)
    done = made.run(*mounting, made.store, made.mountpoint, check=False)
    refused(done, 13, "service-keys", "--state-dir")
    assert snapshot(made.store, made.state) == before
    (made.folder / "kept.key").rename(key)
    made.mount()


def test_another_state_folder(made, mounting):
    other = made.folder / "other"
    done = made.run(*mounting, "--state-dir", other, made.store, made.mountpoint, check=False)
    refused(done, 13)
    assert not (other / "service-keys").exists() or not any(other.glob("service-keys/*.key"))


@pytest.mark.parametrize(
    ("which", "mode"), [("service-keys", 0o755), ("service-keys/*.key", 0o644), (".", 0o777)]
)
def test_keys_that_others_can_read(made, mounting, which, mode):
    (place,) = made.state.glob(which) if which != "." else [made.state]
    place.chmod(mode)
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 16, "chmod")
    assert stat.S_IMODE(place.stat().st_mode) == mode


# The mount point


def test_a_mount_point_that_is_not_there(made, mounting):
    before = snapshot(made.backing, made.folder)
    done = made.run(*mounting, made.store, made.folder / "nowhere", check=False)
    refused(done, 18, "nowhere", "mkdir")
    assert snapshot(made.backing, made.folder) == before
    (made.folder / "file").write_bytes(b"x")
    refused(made.run(*mounting, made.store, made.folder / "file", check=False), 18)


def test_a_mount_point_that_is_not_empty(made, mounting):
    (made.mountpoint / "file").write_bytes(b"mine")
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 19, "empty")
    assert (made.mountpoint / "file").read_bytes() == b"mine"


def test_a_store_inside_its_own_mount_point(made, mounting):
    before = snapshot(made.backing)
    refused(made.run(*mounting, made.store, made.backing, check=False), 20, "elsewhere")
    refused(made.run(*mounting, made.store, made.store, check=False), 20, "elsewhere")
    (made.folder / "link").symlink_to(made.backing)
    refused(made.run(*mounting, made.store, made.folder / "link", check=False), 20)
    assert snapshot(made.backing) == before


def test_a_mount_point_inside_the_store(made, mounting):
    inner = made.store / "inner"
    inner.mkdir()
    before = snapshot(made.backing)
    refused(made.run(*mounting, made.store, inner, check=False), 21, "elsewhere")
    (made.folder / "link").symlink_to(inner)
    refused(made.run(*mounting, made.store, made.folder / "link", check=False), 21)
    assert snapshot(made.backing) == before


def test_a_second_mount_is_told_who_holds_the_store(made, mounting):
    made.mount()
    (made.mountpoint / "file").write_bytes(b"x")
    second = made.folder / "second"
    second.mkdir()
    (pid,) = made.pids()
    done = made.run(*mounting, made.store, second, check=False)
    refused(done, 17, str(pid), str(made.mountpoint), "unmount")
    assert (made.mountpoint / "file").read_bytes() == b"x"
    made.umount()
    made.run("mount", "--log-file", made.log_place, made.store, second)
    assert os.listdir(second) == ["file"]
    made.run("umount", second)
    until(lambda: not processes_with(str(second)), "the driver ends")


def test_a_mount_point_that_is_taken(made, mounting):
    made.mount()
    other = made.backing / "other"
    made.run("init", other)
    # Its root is empty, and yet nothing may be mounted over it.
    refused(made.run(*mounting, other, made.mountpoint, check=False), 19, "mounted")
    assert mountpoints_below(made.folder) == [str(made.mountpoint)]


def test_a_mount_whose_driver_died(made, mounting):
    made.mount()
    (pid,) = made.pids()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not made.pids(), "the driver dies")
    refused(made.run(*mounting, made.store, made.mountpoint, check=False), 18, "ckfs umount")
    (own,) = json.loads(made.run("status", "--json").stdout)["mounts"]
    assert "does not answer" in own["problem"]
    made.run("umount", made.mountpoint)
    made.mount()


# Options and arguments


@pytest.mark.parametrize(
    "option", ["nonsense", "uid=nobody", "attr_timeout=soon", "ro=1", "uid=-5", "fsname=x", "uid="]
)
def test_an_option_that_there_is_not(made, mounting, option):
    done = made.run(*mounting, "-o", option, made.store, made.mountpoint, check=False)
    refused(done, 2, option.partition("=")[0])


def test_wrong_arguments(made):
    for arguments in (["mount"], ["mount", made.store], ["nonsense"], ["init", "--nonsense", "x"]):
        done = made.run(*arguments, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.strip().count("\n") <= 4


# init


def test_init_on_a_folder_with_something_in_it(unmade):
    unmade.store.mkdir()
    (unmade.store / "file").write_bytes(b"mine")
    before = snapshot(unmade.backing)
    refused(unmade.run("init", unmade.store, check=False), 25, "not empty")
    assert snapshot(unmade.backing) == before
    refused(unmade.run("init", unmade.store / "file", check=False), 25)
    assert snapshot(unmade.backing) == before
    assert not unmade.state.exists()


def test_init_of_what_is_a_store(made):
    before = snapshot(made.backing, made.state)
    refused(made.run("init", made.store, check=False), 25, "store already")
    assert snapshot(made.backing, made.state) == before


@pytest.mark.parametrize("inside", ["store", "store/keys", "store/a/b"])
def test_init_with_the_keys_inside_the_store(unmade, inside):
    unmade.store.mkdir()
    before = snapshot(unmade.backing)
    place = unmade.backing / inside
    done = unmade.run("init", "--state-dir", place, unmade.store, check=False)
    refused(done, 16, "inside the store")
    assert snapshot(unmade.backing) == before
    (unmade.folder / "link").symlink_to(unmade.store)
    place = unmade.folder / "link" / "keys"
    refused(unmade.run("init", "--state-dir", place, unmade.store, check=False), 16)
    assert snapshot(unmade.backing) == before


def test_mount_with_the_keys_inside_the_store(made, mounting):
    done = made.run(
        *mounting, "--state-dir", made.store / "keys", made.store, made.mountpoint, check=False
    )
    assert done.returncode in (13, 16)
    assert done.stderr.count("\n") == 1
    assert not (made.store / "keys").exists()


def test_init_where_the_keys_cannot_be_kept(unmade):
    unmade.folder.joinpath("state").mkdir(mode=0o755)
    (unmade.state / "service-keys").mkdir(mode=0o755)
    (unmade.state / "service-keys").chmod(0o755)
    unmade.store.mkdir()
    before = snapshot(unmade.backing)
    refused(unmade.run("init", unmade.store, check=False), 16, "chmod")
    assert snapshot(unmade.backing) == before


@pytest.mark.parametrize("size", ["0", "1000", "2048", "65537", "2097152", "-1", "many"])
def test_init_with_a_chunk_size_that_there_is_not(unmade, size):
    done = unmade.run("init", f"--chunk-size={size}", unmade.store, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not unmade.store.exists()


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


def with_fuse(driven, work):
    """Some machines keep /dev/fuse for root; here it is everybody's, as udev's rules make it."""
    device = driven.backing.parent / "fuse"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(10, 229))
    device.chmod(0o666)
    in_own_namespace(work, device)


def in_own_namespace(work, device):
    """Fork, and let mounts of the child stay the child's; what it raises is raised here."""
    child = os.fork()
    if not child:
        code = 1
        try:
            assert ctypes.CDLL(None).unshare(0x00020000) == 0  # CLONE_NEWNS
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            subprocess.run(["mount", "--bind", device, "/dev/fuse"], check=True)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 all of it is told
            traceback.print_exc()
        finally:
            os._exit(code)
    _pid, status = os.waitpid(child, 0)
    assert status == 0, "see the captured standard error"


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
