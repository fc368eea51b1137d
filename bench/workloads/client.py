"""The client: one workload on one mount, in a process of its own, with the standard library only.

`python -I -S client.py TASK ARGUMENTS`, the arguments as JSON; the last line that it prints is JSON
with `seconds` of the wall clock and `cpu` seconds (its own and its children's) of the timed part.
What is not the filesystem's work is done before the clock starts: buffers, offsets, names.
"""

import gc
import hashlib
import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Self

BLOCK = 4096
MIB = 1 << 20


class Clock:
    """Times what stands in its `with`; CPU seconds of this process and of children that ended."""

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0

    def __enter__(self) -> Self:
        gc.disable()
        self._cpu = _cpu()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_error: object) -> None:
        self.seconds += time.perf_counter() - self._start
        self.cpu += _cpu() - self._cpu


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


# One large file


def _pieces(seed: int) -> list[memoryview]:
    """32 pieces of 1 MiB of random bytes, no two alike, that share one buffer of 9 MiB."""
    data = memoryview(random.Random(seed).randbytes(9 * MIB))  # noqa: S311 content, no secret
    return [data[at : at + MIB] for at in range(0, 8 * MIB, MIB // 4)]


def write_file(clock: Clock, path: str, size: int, *, fsync: bool = False) -> None:
    """In calls of 1 MiB; the close is timed, since filesystems write there."""
    pieces = _pieces(1)
    with clock:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for number in range(size // MIB):
            if os.write(file, pieces[number % 32]) != MIB:
                raise OSError(f"{path}: a short write")
        if fsync:
            os.fsync(file)
        os.close(file)


def read_file(clock: Clock, path: str, size: int) -> None:
    """In calls of 1 MiB into one buffer."""
    buffers = [bytearray(MIB)]
    done = 0
    with clock:
        file = os.open(path, os.O_RDONLY)
        while got := os.readv(file, buffers):
            done += got
        os.close(file)
    if done != size:
        raise ValueError(f"{path}: {done} bytes read of {size}")


def verify_file(_clock: Clock, path: str, size: int) -> None:
    """Every byte is what `write_file` wrote."""
    pieces = _pieces(1)
    with open(path, "rb") as file:
        for number in range(size // MIB):
            if file.read(MIB) != pieces[number % 32]:
                raise ValueError(f"{path}: other bytes in MiB {number} than were written")
        if file.read(1):
            raise ValueError(f"{path}: longer than was written")


# Blocks of 4 KiB of one file


def _offsets(size: int, count: int, seed: int) -> list[int]:
    draw = random.Random(seed)  # noqa: S311 a workload, no secret
    return [draw.randrange(size // BLOCK) * BLOCK for _ in range(count)]


def _blocks(seed: int) -> list[memoryview]:
    data = memoryview(random.Random(seed).randbytes(1024 * BLOCK))  # noqa: S311
    return [data[at : at + BLOCK] for at in range(0, 1024 * BLOCK, BLOCK)]


def random_read(
    clock: Clock, path: str, size: int, count: int, seed: int, *, warm: bool = False
) -> None:
    """Through one open file; warm: the same offsets were read before the clock starts."""
    offsets = _offsets(size, count, seed)
    pread = os.pread
    file = os.open(path, os.O_RDONLY)
    if warm:
        for at in offsets:
            pread(file, BLOCK, at)
    got = 0
    with clock:
        for at in offsets:
            got += len(pread(file, BLOCK, at))
    os.close(file)
    if got != count * BLOCK:
        raise ValueError(f"{path}: {got} bytes read of {count * BLOCK}")


def random_write(
    clock: Clock, path: str, size: int, count: int, seed: int, *, fsync: bool = False
) -> None:
    """Through one open file; its close is timed, since filesystems write there."""
    blocks = _blocks(seed)
    work = [(blocks[n % 1024], at) for n, at in enumerate(_offsets(size, count, seed))]
    pwrite = os.pwrite
    file = os.open(path, os.O_RDWR)
    with clock:
        for block, at in work:
            pwrite(file, block, at)
        if fsync:
            os.fsync(file)
        os.close(file)


def verify_random(_clock: Clock, path: str, size: int, writes: list[tuple[int, int]]) -> None:
    """`writes` are the (count, seed) of what was written over a file of `write_file`, in order."""
    expected: dict[int, memoryview] = {}
    for count, seed in writes:
        blocks = _blocks(seed)
        expected |= {at: blocks[n % 1024] for n, at in enumerate(_offsets(size, count, seed))}
    pieces = _pieces(1)
    with open(path, "rb") as file:
        for at in range(0, size, BLOCK):
            block = expected.get(at)
            if block is None:
                block = pieces[at // MIB % 32][at % MIB : at % MIB + BLOCK]
            if file.read(BLOCK) != block:
                raise ValueError(f"{path}: other bytes at {at} than were written")


# Small files

_ONE = "one"
"""The shape of a tree: all files in one folder; else the number of files in each folder."""
_LEVELS, _FAN = 6, 8


def _place(folder: str, number: int, shape: str) -> str:
    """The folder of a file: `shape` files in each, at the end of six levels that fan out by 8."""
    if shape == _ONE:
        return f"{folder}/all"
    leaf = number // int(shape)
    if shape == "500":
        return f"{folder}/{leaf:03}"
    digits = (leaf // _FAN**level % _FAN for level in reversed(range(_LEVELS)))
    return "/".join([folder, *(f"level {digit}" for digit in digits)])


def _names(folder: str, count: int, stem: str = "file", shape: str = "500") -> list[str]:
    return [f"{_place(folder, n, shape)}/{stem} {n:06}.txt" for n in range(count)]


def _folders(folder: str, count: int, shape: str = "500") -> list[str]:
    return list(dict.fromkeys(_place(folder, n, shape) for n in range(count)))


def create(clock: Clock, folder: str, count: int, size: int, shape: str = "500") -> None:
    """`count` files of `size` bytes, each opened, written in one call and closed."""
    names, blocks = _names(folder, count, shape=shape), _blocks(3)
    for place in _folders(folder, count, shape):
        os.makedirs(place)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with clock:
        for number, name in enumerate(names):
            file = os.open(name, flags, 0o644)
            os.write(file, blocks[number % 1024][:size])
            os.close(file)


def stat(clock: Clock, folder: str, count: int, shape: str = "500", *, warm: bool = False) -> None:
    """Each file by its name."""
    names = _names(folder, count, shape=shape)
    if warm:
        for name in names:
            os.lstat(name)
    with clock:
        for name in names:
            os.lstat(name)


def listing(clock: Clock, folder: str, count: int, passes: int = 1, *, warm: bool = False) -> None:
    """Names and attributes of everything in the folders, as `ls -l` does."""
    folders = _folders(folder, count)
    if warm:
        for _entry in _listed(folders):
            pass
    found = 0
    with clock:
        for _ in range(passes):
            for _entry in _listed(folders):
                found += 1
    if found != count * passes:
        raise ValueError(f"{folder}: {found} entries listed of {count * passes}")


def _listed(folders: list[str]) -> Iterator[os.stat_result]:
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.stat(follow_symlinks=False)


def read_files(
    clock: Clock, folder: str, count: int, size: int, shape: str = "500", *, warm: bool = False
) -> None:
    """Each file opened, read in one call and closed."""
    names = _names(folder, count, shape=shape)
    buffers = [bytearray(2 * size)]
    if warm:
        _read_all(names, buffers)
    with clock:
        got = _read_all(names, buffers)
    if got != count * size:
        raise ValueError(f"{folder}: {got} bytes read of {count * size}")


def _read_all(names: list[str], buffers: list[bytearray]) -> int:
    got = 0
    for name in names:
        file = os.open(name, os.O_RDONLY)
        got += os.readv(file, buffers)
        os.close(file)
    return got


def rename(clock: Clock, folder: str, count: int) -> None:
    """Each file to another name in its folder."""
    pairs = list(zip(_names(folder, count), _names(folder, count, "renamed"), strict=True))
    with clock:
        for old, new in pairs:
            os.rename(old, new)


def delete(
    clock: Clock, folder: str, count: int, stem: str = "renamed", shape: str = "500"
) -> None:
    """Each file by its name; the folders go untimed."""
    names = _names(folder, count, stem, shape)
    with clock:
        for name in names:
            os.unlink(name)
    shutil.rmtree(folder)


def verify_files(_clock: Clock, folder: str, count: int, size: int) -> None:
    """The files of `create` and no others, with their bytes."""
    blocks = _blocks(3)
    found = sorted(f"{p}/{n}" for p in _folders(folder, count) for n in os.listdir(p))
    if found != _names(folder, count):
        raise ValueError(f"{folder}: other names than were created")
    for number, name in enumerate(found):
        with open(name, "rb") as file:
            if file.read() != blocks[number % 1024][:size]:
                raise ValueError(f"{name}: other bytes than were written")


# Programs


def command(clock: Clock, words: list[str]) -> None:
    """A program to its end; what it writes to standard output is read and dropped."""
    buffers = [bytearray(MIB)]
    with clock:
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            if running.stdout is None or running.stderr is None:
                raise AssertionError("pipes were asked for")
            while os.readv(running.stdout.fileno(), buffers):
                pass
            said = running.stderr.read()
    if running.returncode:
        raise OSError(f"{words[0]} ended with {running.returncode}: {said.decode()[-400:]}")


def sqlite(clock: Clock, path: str, count: int, mode: str) -> None:
    """`count` transactions of an insert and an update each; synchronous=FULL."""
    base = sqlite3.connect(path, isolation_level=None)
    if base.execute(f"pragma journal_mode={mode}").fetchone() != (mode,):
        raise OSError(f"SQLite does not accept journal_mode={mode} here")
    base.execute("pragma synchronous=full")
    base.execute("create table item(id integer primary key, name text, content blob)")
    content = random.Random(5).randbytes(1000)  # noqa: S311
    with clock:
        for number in range(count):
            base.execute("begin immediate")
            base.execute("insert into item values (?, ?, ?)", (number, "new", content))
            base.execute("update item set name='old' where id=?", (number // 2,))
            base.execute("commit")
    base.close()


def verify_sqlite(_clock: Clock, path: str, count: int) -> None:
    """SQLite's own check, and the number of rows."""
    base = sqlite3.connect(path)
    if base.execute("pragma integrity_check").fetchone() != ("ok",):
        raise ValueError(f"{path}: SQLite finds it damaged")
    if base.execute("select count(*) from item").fetchone() != (count,):
        raise ValueError(f"{path}: transactions are missing")
    base.close()


def fio(clock: Clock, words: list[str]) -> None:
    """Seconds are fio's own, of its slowest job: its start and its layout of files are left out."""
    with clock:
        done = subprocess.run(
            ["fio", "--output-format=json", *words], check=False, capture_output=True
        )
    said = done.stdout.decode()
    if done.returncode or "{" not in said:
        told = [line for line in (said + done.stderr.decode()).splitlines() if "err" in line]
        raise OSError(f"fio ended with {done.returncode}: {' '.join(told)[:400]}")
    jobs = json.loads(said[said.index("{") :])["jobs"]
    if failed := [job["error"] for job in jobs if job["error"]]:
        raise OSError(failed[0], f"fio: {os.strerror(failed[0])}")
    clock.seconds = max(max(job["read"]["runtime"], job["write"]["runtime"]) for job in jobs) / 1e3


def compare(_clock: Clock, source: str, copy: str) -> None:
    """Two trees have the same names, bytes, modes and times (to the second)."""
    if wrong := sorted(set(_manifest(source).items()) ^ set(_manifest(copy).items()))[:3]:
        raise ValueError(f"{copy} differs from what was copied: {wrong}")


def _manifest(top: str) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for folder, _folders, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            facts = os.stat(path)
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[os.path.relpath(path, top)] = (digest, facts.st_mode, int(facts.st_mtime))
    return found


TASKS: dict[str, Callable[..., None]] = {
    task.__name__: task
    for task in (
        write_file,
        read_file,
        verify_file,
        random_read,
        random_write,
        verify_random,
        create,
        stat,
        listing,
        read_files,
        rename,
        delete,
        verify_files,
        command,
        sqlite,
        verify_sqlite,
        fio,
        compare,
    )
}


def main(words: list[str]) -> int:
    """0, or 1 and the reason on standard error."""
    clock, name = Clock(), words[1]
    try:
        TASKS[name](clock, **json.loads(words[2]))
    except (OSError, ValueError, sqlite3.Error) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"seconds": clock.seconds, "cpu": clock.cpu}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
