"""Documents on disk: whole, private, locked, and no error but ours."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from keyhierarchy import durable
from keyhierarchy.errors import (
    KeystoreBusy,
    KeystoreInvalid,
    KeystoreMissing,
    StorageUnavailable,
    UnsafePermissions,
)


@pytest.fixture
def document(tmp_path) -> str:
    return str(tmp_path / "document.json")


def test_replace_then_read(document):
    durable.replace_document(document, b"one")
    durable.replace_document(document, b"two")
    assert durable.read_document(document, limit=3, private=True) == b"two"
    assert stat.S_IMODE(os.stat(document).st_mode) == 0o600
    assert os.listdir(os.path.dirname(document)) == ["document.json"]


def test_the_mode_is_0600_whatever_the_umask(document):
    old = os.umask(0o277)
    try:
        durable.replace_document(document, b"one")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(document).st_mode) == 0o600


@pytest.mark.parametrize("failing", ["write", "fsync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
def test_a_failed_replacement_leaves_the_old_document_alone(document, monkeypatch, failing, code):
    durable.replace_document(document, b"old")

    def fails(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fails)
        with pytest.raises(StorageUnavailable, match=r"document\.json"):
            durable.replace_document(document, b"new")
    assert durable.read_document(document, limit=9) == b"old"
    assert os.listdir(os.path.dirname(document)) == ["document.json"]


def test_content_is_synced_before_the_name_and_the_folder_after(document, monkeypatch):
    calls = []
    real_fsync, real_rename = os.fsync, os.rename
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (
            calls.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"),
            real_fsync(fd),
        )[1],
    )
    monkeypatch.setattr(
        os, "rename", lambda *a, **k: (calls.append("rename"), real_rename(*a, **k))[1]
    )
    durable.replace_document(document, b"new")
    assert calls == ["file", "rename", "folder"]


def test_what_a_crashed_writer_left_is_swept(document, tmp_path):
    (tmp_path / ".document.json.tmp-00ff").write_bytes(b"maybe a key")
    (tmp_path / ".other.json.tmp-00ff").write_bytes(b"not ours")
    durable.replace_document(document, b"new")
    assert sorted(os.listdir(tmp_path)) == [".other.json.tmp-00ff", "document.json"]


def test_a_missing_document_or_folder_is_told(document, tmp_path):
    with pytest.raises(KeystoreMissing, match=r"document\.json"):
        durable.read_document(document, limit=9)
    with pytest.raises(KeystoreMissing):
        durable.replace_document(str(tmp_path / "none" / "document.json"), b"")


def test_a_symbolic_link_is_not_followed(document, tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"secret")
    os.symlink(tmp_path / "elsewhere", document)
    with pytest.raises(KeystoreInvalid, match="symbolic link"):
        durable.read_document(document, limit=99)
    durable.replace_document(document, b"new")  # replaces the link, not what it points to
    assert (tmp_path / "elsewhere").read_bytes() == b"secret"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused_and_does_not_hang(document, make):
    make(document)
    with pytest.raises(KeystoreInvalid, match="regular file"):
        durable.read_document(document, limit=9)


def test_a_document_longer_than_it_can_be_is_not_read(document):
    durable.replace_document(document, b"0123456789")
    with pytest.raises(KeystoreInvalid, match="10 bytes"):
        durable.read_document(document, limit=9)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_private_document_that_others_can_read_is_refused(document, mode):
    durable.replace_document(document, b"one")
    os.chmod(document, mode)
    with pytest.raises(UnsafePermissions, match=f"chmod 0600 {document}"):
        durable.read_document(document, limit=9, private=True)
    assert durable.read_document(document, limit=9) == b"one"


def test_a_private_document_of_somebody_else_is_refused(document, monkeypatch):
    durable.replace_document(document, b"one")
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(UnsafePermissions, match=f"chown {other}"):
        durable.read_document(document, limit=9, private=True)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_no_permission_is_told_as_such(document, code):
    error = durable.storage_error(OSError(code, "no"), document, "read")
    assert isinstance(error, UnsafePermissions)
    assert str(os.geteuid()) in str(error)


def test_an_error_while_reading_is_told(document, monkeypatch):
    durable.replace_document(document, b"one")

    def fails(*_args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", fails)
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        durable.read_document(document, limit=9)


def test_a_private_folder_is_made_with_those_above_it(tmp_path):
    folder = tmp_path / "a" / "b" / "c"
    durable.make_private_folder(str(folder))
    durable.make_private_folder(str(folder))
    for made in (folder, folder.parent, folder.parent.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_a_folder_that_others_can_enter_is_refused(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    folder.chmod(0o750)
    with pytest.raises(UnsafePermissions, match=f"chmod 0700 {folder}"):
        durable.make_private_folder(str(folder))


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(KeystoreInvalid, match="no folder"):
        durable.require_private_folder(str(tmp_path / "state"))
    with pytest.raises(KeystoreInvalid):
        durable.make_private_folder(str(tmp_path / "state" / "below"))


def test_a_lock_keeps_others_out_and_is_given_back(tmp_path):
    lock = str(tmp_path / "lock")
    with durable.locked(lock), pytest.raises(KeystoreBusy, match="try again"), durable.locked(lock):
        pass
    with durable.locked(lock, wait=True):
        pass
    with pytest.raises(KeystoreMissing), durable.locked(str(tmp_path / "none" / "lock")):
        pass


def test_a_filesystem_without_locks_is_told(tmp_path, monkeypatch):
    def fails(*_args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", fails)
    with (
        pytest.raises(StorageUnavailable, match="No locks"),
        durable.locked(str(tmp_path / "lock")),
    ):
        pass
