"""What people do with a filesystem: rsync, git, databases, archives, compilers."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.mounted

MIB = 1 << 20


def run(*command: str | Path, cwd: Path | None = None) -> str:
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.com",
    }
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, timeout=280, env=environment
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def make_tree(place: Path, *, files: int, large: int) -> None:
    """Real files of Python's libraries, and what else a folder of somebody's may have."""
    taken = 0
    # Debian's standard library is a third of the one that Python itself installs.
    for which in ("stdlib", "purelib"):
        library = Path(sysconfig.get_paths()[which])
        for folder, folders, names in os.walk(library):
            folders[:] = [name for name in folders if name not in ("site-packages", "__pycache__")]
            target = place / which / Path(folder).relative_to(library)
            target.mkdir(parents=True)
            for name in names:
                if taken < files:
                    shutil.copy2(Path(folder) / name, target / name)
                    taken += 1
    assert taken == files, f"Python's libraries have only {taken} files"
    odd = place / "odd"
    odd.mkdir()
    (odd / "empty").touch()
    (odd / ("n" * 200)).write_bytes(b"a long name")
    (odd / ("l" * 255)).write_bytes(b"the longest name")
    (odd / "größer als 日本").write_bytes(b"not ASCII")
    (odd / os.fsdecode(b"not \xff utf-8")).write_bytes(b"nor UTF-8")
    (odd / "program").write_text("#!/bin/sh\necho ran\n")
    (odd / "program").chmod(0o755)
    (odd / "private").write_bytes(b"x")
    (odd / "private").chmod(0o400)
    (odd / "link").symlink_to("program")
    (odd / "dangling").symlink_to("nowhere/at/all")
    (odd / "up").symlink_to("..")
    os.link(odd / "program", odd / "second name")
    os.link(odd / "program", place / "third name")
    os.mkfifo(odd / "fifo")
    os.setxattr(odd / "program", "user.note", b"kept")
    chunk = random.Random(1).randbytes(MIB)
    with (odd / "large").open("wb") as file:
        for number in range(large // MIB):
            file.write(number.to_bytes(8) + chunk[8:])
    for number, (folder, _, names) in enumerate(os.walk(place, topdown=False)):
        # A link to a folder stands among the folders; rsync takes times of one second for equal.
        for name in [*names, *(["up"] if os.path.basename(folder) == "odd" else []), "."]:
            at = 1_600_000_000_000_000_000 + number * 1_000_000_007 + len(name)
            os.utime(Path(folder) / name, ns=(at, at), follow_symlinks=False)


def times(place: Path) -> dict[str, int]:
    found = {".": place.stat().st_mtime_ns}
    for folder, folders, names in os.walk(place):
        for name in folders + names:
            path = Path(folder) / name
            found[str(path.relative_to(place))] = path.lstat().st_mtime_ns
    return found


@pytest.mark.parametrize(
    "large", [64 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.slow)], ids=["64MiB", "1GiB"]
)
def test_a_real_tree_goes_in_and_comes_back(driven, tmp_path, large):
    source = tmp_path / "source"
    source.mkdir()
    make_tree(source, files=2100, large=large)
    target = driven.mountpoint / "tree"
    run("rsync", "-aHX", f"{source}/", target)
    driven.remount()
    compare = ("rsync", "-aHXcn", "--delete", "--itemize-changes", f"{source}/", f"{target}/")
    assert run(*compare) == ""
    assert times(target) == times(source)
    assert run("rsync", "-aHX", "--itemize-changes", f"{source}/", target) == ""
    assert (target / "third name").stat().st_nlink == 3
    assert run(target / "odd" / "program") == "ran\n"
    # The comparison itself must be able to fail.
    with (target / "stdlib" / "os.py").open("r+b") as file:
        file.seek(100)
        file.write(b"#")
    os.utime(
        target / "stdlib" / "os.py", ns=((source / "stdlib" / "os.py").stat().st_mtime_ns,) * 2
    )
    assert run(*compare).split() == [">fc........", "stdlib/os.py"]
    shutil.rmtree(target)
    shutil.rmtree(source)


def test_git(driven, tmp_path):
    origin = tmp_path / "origin"
    run("git", "init", "-q", "-b", "main", origin)
    for number in range(30):
        (origin / f"file {number % 7}").write_text(f"{number}\n" * 500)
        (origin / "folder").mkdir(exist_ok=True)
        (origin / "folder" / f"{number}").write_bytes(random.Random(number).randbytes(5000))
        run("git", "add", ".", cwd=origin)
        run("git", "commit", "-q", "-m", f"{number}", cwd=origin)
    clone = driven.mountpoint / "clone"
    run("git", "clone", "-q", f"file://{origin}", clone)
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    run("git", "checkout", "-q", "-b", "work", "HEAD~10", cwd=clone)
    (clone / "file 1").write_text("changed\n")
    run("git", "commit", "-q", "-a", "-m", "changed", cwd=clone)
    run("git", "merge", "-q", "-s", "ours", "-m", "merged", "main", cwd=clone)
    run("git", "gc", "-q", "--prune=now", cwd=clone)
    run("git", "fsck", "--full", "--strict", cwd=clone)
    driven.remount()
    run("git", "fsck", "--full", "--strict", cwd=clone)
    assert run("git", "status", "--porcelain", cwd=clone) == ""
    assert run("git", "rev-list", "--count", "main", cwd=clone).strip() == "30"


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite(driven, mode):
    place = driven.mountpoint / "data.db"
    database = sqlite3.connect(place, isolation_level=None)
    assert database.execute(f"PRAGMA journal_mode={mode}").fetchone() == (mode,)
    database.execute("CREATE TABLE facts (id INTEGER PRIMARY KEY, name TEXT, number INTEGER)")
    database.execute("CREATE INDEX by_name ON facts (name)")
    for start in range(0, 100_000, 10_000):
        database.execute("BEGIN")
        database.executemany(
            "INSERT INTO facts VALUES (?, ?, ?)",
            ((n, f"name {n * 7919 % 100_003}", n * n) for n in range(start, start + 10_000)),
        )
        database.execute("COMMIT")
    database.execute("BEGIN")
    database.execute("DELETE FROM facts")
    database.execute("ROLLBACK")
    # A second connection sees what the first one wrote, through the shared memory file in WAL.
    second = sqlite3.connect(place, isolation_level=None)
    assert second.execute("SELECT count(*) FROM facts").fetchone() == (100_000,)
    second.execute("UPDATE facts SET number = -1 WHERE id % 1000 = 0")
    assert database.execute("SELECT count(*) FROM facts WHERE number = -1").fetchone() == (100,)
    for connection in (database, second):
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
    driven.remount()
    database = sqlite3.connect(place)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    total = database.execute("SELECT sum(number) FROM facts").fetchone()[0]
    assert total == sum(-1 if n % 1000 == 0 else n * n for n in range(100_000))
    database.close()


def test_tar_out_and_in(driven, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    make_tree(source, files=300, large=2 * MIB)
    run("tar", "-C", tmp_path, "-cf", driven.mountpoint / "in.tar", "source")
    run("tar", "-C", driven.mountpoint, "-xf", driven.mountpoint / "in.tar")
    run("diff", "-r", "--no-dereference", "-x", "fifo", source, driven.mountpoint / "source")
    run("tar", "-C", driven.mountpoint, "-cf", tmp_path / "out.tar", "source")
    (tmp_path / "again").mkdir()
    run("tar", "-C", tmp_path / "again", "-xf", tmp_path / "out.tar")
    again = tmp_path / "again" / "source"
    assert run("rsync", "-aHcn", "--delete", "--itemize-changes", f"{source}/", again) == ""


def test_a_compiler(driven):
    place = driven.mountpoint / "project"
    place.mkdir()
    count = 8
    for number in range(count):
        (place / f"part{number}.c").write_text(f"int part{number}(void) {{ return {number}; }}\n")
        (place / f"part{number}.h").write_text(f"int part{number}(void);\n")
    includes = "".join(f'#include "part{number}.h"\n' for number in range(count))
    total = "+".join(f"part{number}()" for number in range(count))
    (place / "main.c").write_text(
        f'#include <stdio.h>\n{includes}int main(void) {{ printf("%d\\n", {total}); return 0; }}\n'
    )
    objects = " ".join(f"part{number}.o" for number in range(count))
    (place / "Makefile").write_text(
        f"program: main.o libparts.a\n\tgcc -o $@ main.o -L. -lparts\n"
        f"libparts.a: {objects}\n\tar rcs $@ {objects}\n%.o: %.c\n\tgcc -g -c -o $@ $<\n"
    )
    run("make", "-s", "-j2", cwd=place)
    assert run(place / "program") == "28\n"
    assert run("make", "-q", cwd=place) == ""
    driven.remount()
    assert run(place / "program") == "28\n"
    assert run("make", "-q", cwd=place) == ""
    (place / "part1.c").write_text("int part1(void) { return 100; }\n")
    run("make", "-s", cwd=place)
    assert run(place / "program") == "127\n"


def test_sparse_copies_stay_sparse(driven, tmp_path):
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        for number in range(5):
            file.seek(number * 40 * MIB)
            file.write(os.urandom(100_000))
        file.truncate(200 * MIB)
    copy = driven.mountpoint / "copy"
    run("cp", "--sparse=always", source, copy)
    driven.remount()
    assert copy.stat().st_size == 200 * MIB
    assert driven.backing_of(copy).stat().st_blocks * 512 < 8 * MIB
    run("cmp", source, copy)
    again = tmp_path / "again"
    run("cp", "--sparse=always", copy, again)
    assert again.stat().st_blocks * 512 < 8 * MIB
    run("cmp", source, again)
