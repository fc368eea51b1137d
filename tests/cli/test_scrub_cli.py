"""`ckfs scrub`, `salvage` and `verify` through the command line: words, documents, exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from fsdriver import cli
from fsdriver.storelock import StoreLock
from tests.cli.asking import refused, snapshot
from tests.filesystem.driver import Driver
from tests.mounted.driving import CKFS, until

CONTENT = bytes(range(256)) * 64
ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "COLUMNS": "200"}


class Done(NamedTuple):
    """What a run of the command line gave."""

    returncode: int
    stdout: str
    stderr: str


class Kept(Driver):
    """A closed store, and the command line."""

    def ckfs(self, command, *arguments, given=""):
        """In a child that is forked, since starting Python anew takes most of a second."""
        words = ["ckfs", command, "--state-dir", self.state_dir, *map(str, arguments)]
        with (
            tempfile.TemporaryFile() as standard_input,
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
        ):
            standard_input.write(given.encode())
            standard_input.seek(0)
            child = os.fork()
            if not child:
                run_in_child(words, (standard_input, output, errors))
            _pid, status = os.waitpid(child, 0)
            output.seek(0)
            errors.seek(0)
            code = os.waitstatus_to_exitcode(status)
            return Done(code, output.read().decode(), errors.read().decode())


def run_in_child(words, files):
    """The entry point, as the installed script calls it; does not return."""
    code = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8")  # noqa: SIM115 they end with the child
            for number, mode in enumerate("rww")
        )
        sys.argv = words
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 all of it is told
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@pytest.fixture
def kept(tmp_path):
    made = Kept(str(tmp_path))
    made.mkdir("/d")
    for path in ("/one", "/two", "/d/three"):
        made.write_file(path, CONTENT)
    made.places = {path: Path(made.backing_path(path)) for path in ("/one", "/two", "/d/three")}
    made.close()
    return made


def flip(place: Path, offset: int) -> None:
    raw = bytearray(place.read_bytes())
    raw[offset] ^= 1
    place.write_bytes(raw)


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def document(done):
    return json.loads(done.stdout)


def test_clean_damaged_and_forged_have_their_exit_codes(kept):
    done = kept.ckfs("scrub", kept.store)
    assert done.returncode == 0 and "clean: nothing is wrong" in done.stdout, done.stderr
    assert done.stderr == ""  # no bar where there is no terminal
    flip(kept.places["/one"], 600)
    done = kept.ckfs("scrub", kept.store)
    assert done.returncode == 40
    for words in ("damaged", "/one", "bytes not readable: 0-4095", "ckfs salvage"):
        assert words in done.stdout
    swap(kept.places["/two"], kept.places["/one"])
    done = kept.ckfs("scrub", kept.store)
    assert done.returncode == 41 and "moved" in done.stdout


def test_the_document(kept):
    flip(kept.places["/d/three"], 600)
    done = kept.ckfs("scrub", "--json", kept.store)
    said = document(done)
    assert done.returncode == 40
    assert {"format", "store", "store_id", "result", "started", "seconds", "mounted"} <= set(said)
    assert {"content_database", "folders", "files", "symlinks", "nodes"} <= set(said)
    assert {"verified_bytes", "read_bytes", "resumed_files", "notes", "verdicts"} <= set(said)
    assert said["result"] == "damaged" and said["verdicts"]["damaged"] == 1
    assert said["files"] == 3 and said["folders"] == 2
    (finding,) = said["findings"]
    assert finding["path"] == "/d/three" and finding["ranges"] == [[0, 4096]]
    assert os.path.join(kept.store, finding["place"]) == str(kept.places["/d/three"])


def test_a_damaged_keystore_is_a_finding_and_a_missing_key_is_not(kept):
    keystore = Path(kept.store, ".ckfs", "keystore.json")
    whole = keystore.read_text()
    keystore.write_text(whole.replace("onedrive", "teams"))
    done = kept.ckfs("scrub", "--json", kept.store)
    assert done.returncode == 40 and document(done)["findings"][0]["kind"] == "keystore"
    keystore.write_text(whole)
    (key,) = Path(kept.state_dir, "service-keys").glob("*.key")
    key.rename(key.with_suffix(".away"))
    refused(kept.ckfs("scrub", kept.store), 13, "key")


def test_what_is_no_store_and_wrong_arguments(kept, tmp_path):
    refused(kept.ckfs("scrub", tmp_path / "nowhere"), 10, "no ckfs store")
    refused(kept.ckfs("scrub", "--yes", kept.store), 2, "--repair")


def test_a_repair_is_a_plan_until_it_is_confirmed(kept):
    flip(kept.places["/one"], 600)
    before = snapshot(Path(kept.store))
    done = kept.ckfs("scrub", "--repair", kept.store)
    assert done.returncode == 40 and "move to quarantine: /one" in done.stdout
    assert "Nothing has been changed yet" in done.stdout
    done = kept.ckfs("scrub", "--repair", "--json", kept.store)
    assert document(done)["repair"]["plan"][0]["action"] == "quarantine"
    assert document(done)["repair"]["done"] is None
    assert snapshot(Path(kept.store)) == before
    done = kept.ckfs("scrub", "--repair", "--yes", kept.store)
    assert done.returncode == 40 and "1 steps done" in done.stdout
    assert kept.ckfs("scrub", kept.store).returncode == 0
    (manifest,) = Path(kept.store, ".ckfs", "quarantine").glob("*/manifest.json")
    (entry,) = json.loads(manifest.read_text())["entries"]
    salvaged = kept.ckfs(
        "salvage",
        kept.store,
        str(manifest.parent.relative_to(kept.store) / entry["name"]),
        "--out",
        Path(kept.state_dir).parent / "out",
    )
    assert salvaged.returncode == 40 and "12288 of 16384 bytes" in salvaged.stdout


def test_at_a_terminal_a_repair_asks(kept):
    flip(kept.places["/one"], 600)
    for answer, gone in ((b"n\n", False), (b"y\n", True)):
        ours, theirs = pty.openpty()
        words = [CKFS, "scrub", "--state-dir", kept.state_dir, "--repair", kept.store]
        with subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, env=ENVIRONMENT) as run:
            os.write(ours, answer)
            said = run.communicate(timeout=60)[0].decode()
        os.close(ours)
        os.close(theirs)
        assert "Do these 1 steps?" in said
        assert kept.places["/one"].exists() is not gone


def test_no_repair_beside_a_driver_nor_before_a_stopped_one_was_followed(kept):
    lock = StoreLock(kept.store, kept.state_dir, read_only=False)
    refused(kept.ckfs("scrub", "--repair", "--yes", kept.store), 17, "in use")
    assert kept.ckfs("scrub", kept.store).returncode == 0
    lock.release()
    kept.open()
    kept.drop()
    refused(kept.ckfs("scrub", "--repair", "--yes", kept.store), 30, "mount the store once")


def test_a_scrub_that_is_killed_goes_on(kept):
    words = [CKFS, "scrub", "--state-dir", kept.state_dir, "--limit-rate", "0.01", kept.store]
    state = next(Path(kept.state_dir, "stores").iterdir()) / "scrub.sqlite"
    for number in (signal.SIGKILL, signal.SIGINT):
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            until(lambda: reads(run.pid, kept), "the scrub reads a file")
            run.send_signal(number)
            _said, words_said = run.communicate(timeout=30)
        assert run.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
        assert b"Traceback" not in words_said
    assert state.exists()
    done = kept.ckfs("scrub", "--resume", "--json", kept.store)
    assert done.returncode == 0 and document(done)["files"] == 3
    assert not state.exists()  # it went through: the next one reads everything


def reads(pid: int, kept) -> bool:
    wanted = {str(place) for place in kept.places.values()}
    opened = set()
    with suppress(OSError):
        for one in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                opened.add(os.readlink(f"/proc/{pid}/fd/{one}"))
    return bool(wanted & opened)


def test_names_do_not_steer_a_terminal(kept):
    kept.open()
    kept.write_file("/\x1b[31mred\n", CONTENT)
    place = Path(kept.backing_path("/\x1b[31mred\n"))
    kept.close()
    flip(place, 600)
    done = kept.ckfs("scrub", kept.store)
    assert "\x1b" not in done.stdout and "\\x1b[31mred\\n" in done.stdout


def test_salvage(kept, tmp_path):
    done = kept.ckfs("salvage", kept.store, "/one", "--out", tmp_path / "whole")
    assert done.returncode == 0 and (tmp_path / "whole").read_bytes() == CONTENT
    flip(kept.places["/one"], 600)
    done = kept.ckfs("salvage", "--json", kept.store, "/one", "--out", tmp_path / "part")
    said = document(done)
    assert done.returncode == 40 and said["missing"] == [[0, 4096]] and not said["whole"]
    assert (tmp_path / "part").read_bytes() == bytes(4096) + CONTENT[4096:]
    refused(
        kept.ckfs("salvage", kept.store, "/one", "--out", tmp_path / "part"), 2, "not there yet"
    )
    refused(kept.ckfs("salvage", kept.store, "/no", "--out", tmp_path / "x"), 2, "no file of the")


def test_verify(kept, tmp_path):
    digest = hashlib.sha256(CONTENT).hexdigest()
    listed = tmp_path / "list"
    listed.write_text("".join(f"{digest}  ./{one}\n" for one in ("one", "two", "d/three")))
    done = kept.ckfs("verify", kept.store, listed)
    assert done.returncode == 0 and "3 match" in done.stdout, done.stderr
    done = kept.ckfs("verify", kept.store, "-", given=f"{digest}  three\n")
    assert done.returncode == 42 and "missing   /three" in done.stdout
    done = kept.ckfs(
        "verify", "--base", "/d", "--json", kept.store, "-", given=f"{digest}  three\n"
    )
    assert done.returncode == 0 and document(done)["counts"]["match"] == 1
    flip(kept.places["/one"], 600)
    assert kept.ckfs("verify", kept.store, listed).returncode == 40
    refused(kept.ckfs("verify", kept.store, tmp_path / "none"), 2, "cannot be read")
    refused(kept.ckfs("verify", "--algorithm", "md5", kept.store, listed), 2, "sha256")


@pytest.mark.mounted
def test_beside_a_busy_mount(made, tmp_path):
    """What programs are changing is never called damage, and damage is found all the same."""
    top = made.mount()
    (top / "d").mkdir()
    (top / "quiet").write_bytes(CONTENT)
    (top / "d" / "damaged").write_bytes(CONTENT)
    made.remount()  # what is damaged later was on the disk for good
    flip(made.backing_of(top / "d" / "damaged"), 600)
    with subprocess.Popen([sys.executable, "-c", BUSY, top / "d"]) as writer:
        until((top / "d" / "round").exists, "the writer is at work")
        done = made.run("scrub", "--settle", "3", "--json", made.store, check=False)
        listed = tmp_path / "list"
        listed.write_text(f"{hashlib.sha256(CONTENT).hexdigest()}  {top}/quiet\n")
        verified = made.run("verify", "--ignore-extra", "--json", top, listed, check=False)
        assert writer.poll() is None
        writer.terminate()
    said = document(done)
    assert said["mounted"], done.stderr
    serious = [one for one in said["findings"] if one["verdict"] in ("damaged", "forged")]
    assert [(one["path"], one["kind"]) for one in serious] == [("/d/damaged", "chunks")]
    assert done.returncode == 40
    assert verified.returncode == 0 and document(verified)["counts"]["match"] == 1, verified.stdout
    assert document(verified)["mounted"]
    made.umount()
    after = made.run("scrub", "--json", made.store, check=False)
    assert [one["path"] for one in document(after)["findings"]] == ["/d/damaged"]
    made.refusals()


@pytest.mark.mounted
@pytest.mark.crash
def test_after_a_killed_driver(made):
    """What it left is neither damage nor forgery, before the next mount and after."""
    top = made.mount()
    (top / "d").mkdir()
    with subprocess.Popen([sys.executable, "-c", BUSY, top / "d"], stderr=subprocess.PIPE) as user:
        until((top / "d" / "round").exists, "the writer is at work")
        made.kill(user)
        assert b"Error" in user.stderr.read()
    done = made.run("scrub", "--json", made.store, check=False)
    said = document(done)
    assert {one["verdict"] for one in said["findings"]} <= {"pending", "leftover"}, said
    assert done.returncode == 0 and not said["mounted"]
    top = made.mount()
    for folder, _folders, names in os.walk(top):
        for name in names:
            Path(folder, name).read_bytes()
    made.umount()
    said = document(made.run("scrub", "--json", made.store))
    assert {one["verdict"] for one in said["findings"]} <= {"leftover"}, said
    made.refusals()


BUSY = """
import os, sys, random
os.chdir(sys.argv[1])
chance = random.Random(1)
count = 0
while True:
    name = f"file {chance.randrange(40)}"
    with open(name, "r+b" if os.path.exists(name) else "wb") as file:
        file.seek(chance.randrange(200_000))
        file.write(os.urandom(chance.randrange(100_000)))
    if chance.random() < 0.3:
        os.replace(name, f"file {chance.randrange(40)}")
    if chance.random() < 0.1:
        file = f"file {chance.randrange(40)}"
        if os.path.exists(file):
            os.truncate(file, chance.randrange(100_000))
    if chance.random() < 0.1:
        os.makedirs(f"folder {chance.randrange(5)}", exist_ok=True)
    count += 1
    if count == 50:
        open("round", "w").close()
"""
