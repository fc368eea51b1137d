"""Several users on one mount, and what its options say of them."""

from __future__ import annotations

import errno
import os
import stat
import subprocess

import pytest

from tests.mounted.driving import as_user, fails

pytestmark = pytest.mark.mounted

NOBODY = 65534


def test_another_user_owns_what_they_make(folder):
    def work():
        os.umask(0o022)
        (folder / "file").write_bytes(b"x")
        (folder / "folder").mkdir()
        (folder / "folder" / "inner").write_bytes(b"y")
        (folder / "link").symlink_to("file")
        os.mkfifo(folder / "fifo")
        os.link(folder / "file", folder / "second")
        assert (folder / "file").read_bytes() == b"x"
        (folder / "file").chmod(0o600)
        os.setxattr(folder / "file", "user.k", b"v")
        os.rename(folder / "second", folder / "renamed")

    as_user(NOBODY, work)
    for name in ("file", "folder", "folder/inner", "link", "fifo", "renamed"):
        status = (folder / name).lstat()
        assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY), name
    assert stat.S_IMODE((folder / "folder").stat().st_mode) == 0o755


def test_permissions_hold_for_another_user(folder):
    (folder / "private").write_bytes(b"secret")
    (folder / "private").chmod(0o600)
    (folder / "readable").write_bytes(b"public")
    (folder / "readable").chmod(0o644)
    (folder / "closed").mkdir()
    (folder / "closed" / "file").write_bytes(b"x")
    (folder / "closed").chmod(0o700)
    (folder / "sticky").mkdir()
    (folder / "sticky").chmod(0o1777)
    (folder / "sticky" / "roots").write_bytes(b"x")

    def work():
        with fails(errno.EACCES):
            (folder / "private").read_bytes()
        assert (folder / "readable").read_bytes() == b"public"
        with fails(errno.EACCES):
            (folder / "readable").write_bytes(b"no")
        with fails(errno.EPERM):
            (folder / "readable").chmod(0o666)
        with fails(errno.EPERM):
            os.chown(folder / "readable", NOBODY, NOBODY)
        with fails(errno.EPERM):
            os.utime(folder / "readable", (1, 1))
        with fails(errno.EACCES):
            os.setxattr(folder / "readable", "user.k", b"v")
        with fails(errno.EACCES):
            os.listdir(folder / "closed")
        with fails(errno.EACCES):
            (folder / "closed" / "file").stat()
        with fails(errno.EPERM):
            (folder / "sticky" / "roots").unlink()
        with fails(errno.EACCES):
            os.getxattr(folder / "private", "user.k")

    as_user(NOBODY, work)
    assert (folder / "readable").read_bytes() == b"public"


def test_groups_count(folder):
    (folder / "file").write_bytes(b"for the group")
    os.chown(folder / "file", 0, 4321)
    (folder / "file").chmod(0o640)

    def work():
        assert (folder / "file").read_bytes() == b"for the group"

    as_user(NOBODY, work, groups=(4321,))
    with pytest.raises(AssertionError, match="PermissionError"):
        as_user(NOBODY, work)


def test_a_file_that_its_owner_may_not_read_can_be_made_and_filled(folder):
    def work():
        descriptor = os.open(folder / "file", os.O_CREAT | os.O_WRONLY, 0o000)
        os.write(descriptor, b"content")
        os.close(descriptor)
        with fails(errno.EACCES):
            (folder / "file").read_bytes()

    as_user(NOBODY, work)
    assert (folder / "file").read_bytes() == b"content"
    assert stat.S_IMODE((folder / "file").stat().st_mode) == 0


def test_writing_takes_the_set_id_bits_away(folder):
    place = folder / "file"
    place.write_bytes(b"x")
    os.chown(place, NOBODY, NOBODY)
    place.chmod(0o6777)

    def write():
        with place.open("r+b") as file:
            file.write(b"y")

    as_user(NOBODY, write)
    assert stat.S_IMODE(place.stat().st_mode) == 0o777
    place.chmod(0o6777)
    as_user(NOBODY, lambda: os.truncate(place, 0))
    assert stat.S_IMODE(place.stat().st_mode) == 0o777
    place.chmod(0o6755)
    os.chown(place, 1, 1)
    assert stat.S_IMODE(place.stat().st_mode) == 0o755


def test_set_id_bits_at_creation(folder):
    def work():
        os.umask(0)
        os.close(os.open(folder / "file", os.O_CREAT | os.O_WRONLY, 0o4755))

    as_user(NOBODY, work)
    status = (folder / "file").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (NOBODY, 0o4755)


def test_without_allow_other_nobody_else_looks_in(driven):
    (driven.mountpoint / "file").write_bytes(b"x")

    def work():
        with fails(errno.EACCES):
            os.listdir(driven.mountpoint)
        with fails(errno.EACCES):
            os.stat(driven.mountpoint / "file")

    as_user(NOBODY, work)


# Mount options


def test_a_read_only_mount_changes_nothing(driven):
    place = driven.mountpoint
    (place / "file").write_bytes(b"content")
    (place / "folder").mkdir()
    driven.remount("-o", "ro")
    assert (place / "file").read_bytes() == b"content"
    for change in (
        lambda: (place / "file").write_bytes(b"no"),
        (place / "new").mkdir,
        (place / "file").unlink,
        (place / "folder").rmdir,
        lambda: os.rename(place / "file", place / "new"),
        lambda: os.utime(place / "file"),
        lambda: (place / "file").chmod(0o600),
        lambda: os.setxattr(place / "file", "user.k", b"v"),
    ):
        with fails(errno.EROFS):
            change()
    assert driven.status()["read_only"]


def test_owners_shown_as_the_options_say(driven):
    (driven.mountpoint / "file").write_bytes(b"x")
    driven.remount("-o", "uid=1234,gid=5678")
    status = (driven.mountpoint / "file").stat()
    assert (status.st_uid, status.st_gid) == (1234, 5678)


def test_what_the_options_forbid(driven):
    (driven.mountpoint / "program").write_bytes(b"#!/bin/sh\n")
    (driven.mountpoint / "program").chmod(0o755)
    subprocess.run([driven.mountpoint / "program"], check=True)
    driven.remount("-o", "noexec,nodev,nosuid")
    with fails(errno.EACCES):
        subprocess.run([driven.mountpoint / "program"], check=True)
