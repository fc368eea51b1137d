"""The command line when all is well: help, versions, status, info, completion, and a clean end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from contextlib import suppress

import pytest

from tests.mounted.driving import CKFS, until

pytestmark = pytest.mark.mounted

VERBS = ("init", "mount", "umount", "status", "info")


def test_help_has_examples_for_every_verb(unmade):
    overview = unmade.run("--help").stdout
    for verb in VERBS:
        assert verb in overview
        text = unmade.run(verb, "--help").stdout
        assert f"ckfs {verb}" in text
        assert "Examples:" in text
        assert unmade.run(verb, "-h").stdout == text
    assert "Exit codes" in overview


def test_the_help_names_every_exit_code(unmade):
    from fsdriver import refusals  # noqa: PLC0415

    overview = " ".join(unmade.run("--help").stdout.split())
    documented = {
        word for line in refusals.__doc__.splitlines() for word in line.split() if word.isdigit()
    }
    missing = [code for code in documented if f" {code} " not in overview]
    assert not missing


def test_the_version(unmade):
    from fsdriver import __version__  # noqa: PLC0415

    assert unmade.run("--version").stdout.split()[:2] == ["ckfs", f"{__version__},"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(unmade, shell):
    environment = {
        **unmade.environment,
        "_CKFS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "ckfs m",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "ckfs m",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run([CKFS], env=environment, capture_output=True, text=True, check=True)
    assert "mount" in done.stdout
    assert "umount" not in done.stdout


def test_status_without_a_mount(unmade):
    mounts = json.loads(unmade.run("status", "--json").stdout)["mounts"]
    assert str(unmade.mountpoint) not in [one["mountpoint"] for one in mounts]


def test_status(made):
    made.mount("-o", "noatime")
    with (made.mountpoint / "file").open("wb"):
        own = made.status()
        text = made.run("status").stdout
    assert own["store"] == str(made.store)
    assert own["pid"] in made.pids()
    assert own["open_files"] == 1
    assert own["format"] == 1
    assert own["names"] == "encrypted"
    assert own["chunk_size"] == 65536
    assert own["read_only"] is False
    (site,) = own["sites"]
    assert site["lease_valid"] is True
    assert site["lease_seconds_left"] > 0
    assert str(made.mountpoint) in text
    assert "read-write" in text
    assert "noatime" in (line for line in _options(made))


def test_status_says_how_safe_the_work_is(made):
    made.mount()
    own = made.status()["durability"]
    # On a busy machine the first one may have come before the question.
    assert own["checkpoint_seconds"] is None or own["checkpoint_seconds"] >= 0
    assert own["failed"] == ""
    assert own["content_database"] == "complete"
    assert (own["journal_bytes"], own["refused"], own["trusted"]) == (0, 0, 0)
    told = made.run("status").stdout
    assert re.search(r"(no checkpoint yet|checkpoint \d+ s ago), content database complete", told)
    place = made.mountpoint / "file"
    place.write_bytes(b"x" * 70_000)
    with made.backing_of(place).open("r+b") as backing:
        backing.seek(600)
        backing.write(b"damage")
    made.remount()
    with pytest.raises(OSError, match="Input/output"):
        place.read_bytes()
    made.refusals()
    assert made.status()["durability"]["refused"] == 1
    assert "refused 1 times" in made.run("status").stdout


def test_status_says_what_memory_is_for(made):
    made.mount()
    before = made.status()["memory"]
    assert 10 << 20 < before["resident_bytes"] <= before["peak_bytes"] < 150 << 20
    for number in range(50):
        (made.mountpoint / f"{number}").write_bytes(b"x" * 100)
    with (made.mountpoint / "0").open("r+b", buffering=0) as file:
        file.write(b"y")
        assert file.read(10) == b"x" * 10
        after = made.status()["memory"]
    assert after["inodes"] - before["inodes"] == 50
    assert after["resting_files"] - before["resting_files"] == 49
    assert after["names"] - before["names"] == 50
    assert after["entries"] - before["entries"] == 50
    assert after["generations"] - before["generations"] == 50
    assert after["chunk_cache_bytes"] >= 65536
    text = made.run("status").stdout
    assert "MiB when it was most" in text
    assert f"{after['names']} names, {after['entries']} entries" in text


def test_a_mount_notes_which_keys_the_host_has_pinned(made):
    """Without an export, which asks the anchor itself."""
    made.mount()
    made.umount()
    known = json.loads(made.run("contentdb", "status", "--json", made.store).stdout)
    assert known["policies"] == 1


def _options(made):
    with open("/proc/self/mountinfo") as lines:
        (line,) = (line for line in lines if str(made.mountpoint) in line)
    return line.split()[5].split(",")


def test_info(made):
    store = json.loads(made.run("info", "--json", made.store).stdout)
    assert store["store"] == str(made.store)
    assert store["format"] == 1
    assert len(store["store_id"]) == 32
    made.mount()
    place = made.mountpoint / "file"
    place.write_bytes(b"x" * 100_000)
    mounted = json.loads(made.run("info", "--json", place).stdout)
    backing = made.backing_of(place)
    assert json.loads(made.run("info", "--json", backing).stdout) == mounted
    assert mounted["backing_file"] == str(backing)
    assert mounted["plaintext_bytes"] == 100_000
    assert mounted["backing_bytes"] == backing.stat().st_size
    assert mounted["chunks"] == 2
    text = made.run("info", place).stdout
    assert str(backing) in text
    assert "nothing of this is authenticated" in text


@pytest.mark.parametrize(
    ("what", "code"), [("nowhere", 10), ("folder", 10), ("plain file", 12), ("empty file", 12)]
)
def test_info_on_what_has_none(made, what, code):
    (made.folder / "folder").mkdir()
    (made.folder / "plain file").write_bytes(b"plain" * 500)
    (made.folder / "empty file").write_bytes(b"")
    done = made.run("info", made.folder / what, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1
    assert "unexpected" not in done.stderr


def test_info_does_not_hang_on_a_fifo(made):
    os.mkfifo(made.folder / "fifo")
    done = made.run("info", made.folder / "fifo", check=False)
    assert done.returncode == 10
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("foreground", [True, False])
def test_a_signal_unmounts_cleanly(made, number, foreground):
    if foreground:
        log = made.log_place.open("wb")
        driver = subprocess.Popen(
            [CKFS, "mount", "-f", made.store, made.mountpoint], env=made.environment, stderr=log
        )
        until(made.is_mounted, "the mount appears")
    else:
        made.mount()
    (made.mountpoint / "file").write_bytes(b"x" * 100_000)
    (pid,) = made.pids()
    os.kill(pid, number)
    until(lambda: not made.is_mounted(), "the mount goes")
    if foreground:
        assert driver.wait(timeout=30) == 0
        log.close()
    made.wait_gone()
    made.mount()
    assert (made.mountpoint / "file").read_bytes() == b"x" * 100_000


def test_a_signal_while_files_are_open_loses_nothing(made):
    made.mount()
    (made.mountpoint / "folder").mkdir()
    file = (made.mountpoint / "folder" / "file").open("wb", buffering=0)
    file.write(b"x" * 300_000)
    (pid,) = made.pids()
    os.kill(pid, signal.SIGTERM)
    made.wait_gone()
    until(lambda: not made.is_mounted(), "the mount goes")
    with suppress(OSError):  # the file is of a mount that is no more
        file.close()
    made.mount()
    assert (made.mountpoint / "folder" / "file").read_bytes() == b"x" * 300_000


def test_a_foreground_mount_ends_with_its_umount(made):
    driver = subprocess.Popen(
        [CKFS, "mount", "-f", made.store, made.mountpoint], env=made.environment
    )
    until(made.is_mounted, "the mount appears")
    made.run("umount", made.mountpoint)
    assert driver.wait(timeout=30) == 0


def test_a_relative_store_and_odd_places(unmade):
    odd = unmade.backing / "a store, with\tall\\kinds of 'signs' ä"
    target = unmade.folder / "a mount, with\tall\\kinds of 'signs' ä"
    target.mkdir()
    unmade.run("init", odd)
    unmade.run("mount", odd, target)
    (target / "file").write_bytes(b"x")
    (own,) = (
        one
        for one in json.loads(unmade.run("status", "--json").stdout)["mounts"]
        if one["mountpoint"] == str(target)
    )
    assert own["store"] == str(odd)
    done = subprocess.run(
        [CKFS, "umount", f"../{target.name}"],
        cwd=unmade.mountpoint,
        env=unmade.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not target.is_mount()
