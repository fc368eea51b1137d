"""`ckfs contentdb` as people and scripts use it: what it shows, asks, refuses and leaves behind."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest

from tests.cli.asking import refused
from tests.mounted.driving import CKFS, DEADLINE

pytestmark = pytest.mark.mounted


def host_folder(made):
    (folder,) = (made.state / "stores").iterdir()
    return folder


def database(made):
    return host_folder(made) / "contentdb.sqlite"


def facts(made, *arguments) -> dict:
    return json.loads(made.run("contentdb", *arguments, "--json").stdout)


def answered(made, answer: str, *arguments) -> subprocess.CompletedProcess:
    """With a person at the terminal."""
    master, slave = pty.openpty()
    try:
        os.write(master, answer.encode() + b"\n")
        return subprocess.run(
            [CKFS, "contentdb", *arguments],
            env=made.environment,
            stdin=slave,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
    finally:
        os.close(master)
        os.close(slave)


def test_a_rebuild_asks_and_says_what_it_takes_on_trust(made):
    made.mount()
    (made.mountpoint / "folder").mkdir()
    (made.mountpoint / "folder" / "file").write_bytes(b"content")
    busy = made.run("contentdb", "rebuild", "--yes", made.store, check=False)
    refused(busy, 17, "in use by process", "unmount it there first")
    made.umount()
    for name in ("contentdb.sqlite", "contentdb.sqlite-wal", "contentdb.sqlite-shm"):
        (host_folder(made) / name).unlink(missing_ok=True)

    unknown = made.run("contentdb", "status", made.store, check=False)
    refused(unknown, 30, "no content database", "mount the store once", "ckfs contentdb rebuild")
    unasked = made.run("contentdb", "rebuild", made.store, check=False)
    refused(unasked, 2, "takes the present state", "on trust", "deleted", "say --yes")
    declined = answered(made, "n", "rebuild", made.store)
    assert declined.returncode == 130
    assert "on trust" in declined.stderr
    assert "nothing was changed" in declined.stderr
    assert not database(made).exists()

    agreed = answered(made, "y", "rebuild", made.store)
    assert agreed.returncode == 0, agreed.stderr
    assert "unreadable" in agreed.stdout
    found = facts(made, "status", made.store)
    assert found["state"] == "complete"
    assert (found["entries"], found["files"], found["folders"]) == (2, 1, 2)
    assert found["database"] == str(database(made))


def test_what_is_known_goes_to_another_host_and_back_only_if_accepted(made):
    made.run("contentdb", "rebuild", "--yes", made.store)
    export, other = made.folder / "export", made.folder / "other"
    said = facts(made, "export", made.store, export)
    assert said["file"] == str(export)
    assert said["entries"] == 0
    again = made.run("contentdb", "export", made.store, export, check=False)
    refused(again, 2, str(export), "name a new file")

    other.mkdir(mode=0o700)
    shutil.copytree(made.state / "service-keys", other / "service-keys")
    forged = made.folder / "forged"
    forged.write_bytes(export.read_bytes()[:-1] + b"\0\0")
    at_other = ("--state-dir", other)
    bad = made.run("contentdb", "import", made.store, forged, *at_other, check=False)
    refused(bad, 12, str(forged), "this store's keys")
    taken = made.run("contentdb", "import", made.store, export, *at_other).stdout
    assert "complete" in taken
    assert (other / database(made).relative_to(made.state)).exists()

    # At home, the root folder was sealed once more since.
    with closing(sqlite3.connect(database(made))) as connection, connection:
        connection.execute("UPDATE objects SET generation = 9")
    older = made.run("contentdb", "import", made.store, export, check=False)
    refused(older, 30, "older than what this host knows", "--accept-older")
    unasked = made.run("contentdb", "import", made.store, export, "--accept-older", check=False)
    refused(unasked, 2, "will be forgotten", "say --yes")
    done = answered(made, "y", "import", made.store, export, "--accept-older")
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(database(made))) as connection:
        assert connection.execute("SELECT generation FROM objects").fetchall() == [(1,)]


def test_help_has_examples(unmade):
    overview = unmade.run("contentdb", "--help").stdout
    for verb in ("status", "export", "import", "rebuild"):
        assert verb in overview
    text = unmade.run("contentdb", "import", "--help").stdout
    assert "Example" in text
    assert "--accept-older" in text
