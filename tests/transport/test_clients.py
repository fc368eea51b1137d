"""Many clients at once, each of whom knows what must be there; and what `-o writeback` keeps."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys

import pytest

from tests.mounted.driving import fails, opened

pytestmark = pytest.mark.mounted

PAGE = mmap.PAGESIZE

CLIENT = """
import os, random, sys, threading

def work(folder, others, seed):
    draw, known, number = random.Random(seed), {}, 0
    for step in range(100):
        what = draw.random()
        if what < 0.35 or not known:
            number += 1
            name, content = f"{seed}-{number}", os.urandom(draw.choice((0, 1, 3000, 70_000)))
            where = draw.choice(others)
            with open(f"{where}/{name}", "wb") as file:
                file.write(content)
            known[where, name] = content
            continue
        (where, name), content = draw.choice(list(known.items()))
        if what < 0.6:
            with open(f"{where}/{name}", "rb") as file:
                assert file.read() == content, (where, name)
            assert os.stat(f"{where}/{name}").st_size == len(content)
        elif what < 0.7:
            with open(f"{where}/{name}", "ab") as file:
                file.write(b"more")
            known[where, name] = content + b"more"
        elif what < 0.85:
            to, new = draw.choice(others), draw.choice((name, name + "r"))
            os.rename(f"{where}/{name}", f"{to}/{new}")
            del known[where, name]
            known[to, new] = content
        elif what < 0.95:
            os.unlink(f"{where}/{name}")
            del known[where, name]
        else:
            mine = {name for at, name in known if at == where}
            assert mine <= set(os.listdir(where))
    for (where, name), content in known.items():
        assert open(f"{where}/{name}", "rb").read() == content
    left[seed] = {f"{os.path.basename(where)}/{name}": len(known[where, name])
                  for where, name in known}

root, process = sys.argv[1], int(sys.argv[2])
others, left = [f"{root}/{one}" for one in "xyz"], {}
threads = [threading.Thread(target=work, args=(root, others, process * 10 + one))
           for one in range(3)]
for one in threads: one.start()
for one in threads: one.join()
assert len(left) == 3
print({name: size for part in left.values() for name, size in part.items()})
"""


def test_many_clients_in_the_same_folders(made):
    mounted = made.mount()
    for name in "xyz":
        (mounted / name).mkdir()
    clients = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", CLIENT, mounted, str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    left = {}
    for client in clients:
        said, _nothing = client.communicate(timeout=60)
        assert client.returncode == 0
        left |= eval(said)  # noqa: S307 the test's own words
    made.remount()
    found = {
        f"{name}/{entry.name}": entry.stat().st_size
        for name in "xyz"
        for entry in os.scandir(mounted / name)
    }
    assert found == left


def test_what_the_kernel_gathers_is_written_as_it_was(made):
    """`-o writeback`: the kernel keeps size, time and offset, and writes when it likes."""
    mounted = made.mount("-o", "writeback")
    before = os.urandom(3 * PAGE + 100)
    whole = mounted / "whole"
    whole.write_bytes(before)
    expected = bytearray(before)
    made.remount("-o", "writeback")
    # Part of a page that is not in memory, by who may not read: the kernel reads it all the same.
    with opened(whole, os.O_WRONLY) as file:
        os.pwrite(file, b"partial", PAGE + 10)
        expected[PAGE + 10 : PAGE + 17] = b"partial"
        with fails(errno.EBADF):
            os.pread(file, 1, 0)
    assert whole.read_bytes() == expected
    # Two who append: the kernel knows the end.
    with opened(whole, os.O_WRONLY | os.O_APPEND) as one:
        with opened(whole, os.O_WRONLY | os.O_APPEND) as other:
            for descriptor, words in ((one, b"first"), (other, b"second"), (one, b"third")):
                os.write(descriptor, words)
                expected += words
                assert os.fstat(other).st_size == len(expected)
    # Mapped, and cut while pages wait.
    with opened(whole, os.O_RDWR) as file:
        with mmap.mmap(file, len(expected)) as mapped:
            mapped[5:11] = expected[5:11] = b"mapped"
            mapped.flush()
        os.pwrite(file, b"beyond", len(expected) + PAGE)
        os.ftruncate(file, len(expected) - 50)
        del expected[-50:]
        os.ftruncate(file, len(expected) + 2 * PAGE)
        expected += bytes(2 * PAGE)
        assert os.fstat(file).st_size == len(expected)
    (mounted / "new").write_bytes(b"renamed before it was written")
    (mounted / "new").rename(mounted / "kept")
    times = (-5 * 10**9 + 7, 1_234_567_890_123_456_789)
    with opened(mounted / "kept", os.O_RDWR) as file:
        os.pwrite(file, b"R", 0)
        os.utime(file, ns=times)
    status = (mounted / "kept").stat()
    assert (status.st_atime_ns, status.st_mtime_ns) == times
    (mounted / "touched").write_bytes(b"x")
    changed = (mounted / "touched").stat().st_mtime_ns
    made.remount()
    status = (mounted / "kept").stat()
    assert (status.st_atime_ns, status.st_mtime_ns) == times
    assert whole.read_bytes() == expected
    assert (mounted / "kept").read_bytes() == b"Renamed before it was written"
    # A time that nobody set: where the kernel does not tell its own, that of the later write.
    assert 0 <= (mounted / "touched").stat().st_mtime_ns - changed < 10**9


def test_a_killed_driver_loses_only_what_was_not_synced(made):
    """`-o writeback` weakens what survives a killed driver; an fsync is an fsync all the same."""
    mounted = made.mount("-o", "writeback")
    one = os.open(mounted / "synced", os.O_RDWR | os.O_CREAT, 0o644)
    other = os.open(mounted / "gathered", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(one, b"s" * 200_000)
    os.fsync(one)
    os.write(one, b"later")
    os.write(other, b"g" * 200_000)
    made.kill()
    for descriptor in (one, other):
        with pytest.raises(OSError, match=r"Input/output|not connected"):
            os.close(descriptor)  # what could not be written is told
    made.mount()
    content = (mounted / "synced").read_bytes()
    assert content[:200_000] == b"s" * 200_000
    assert content[200_000:] in (b"", b"later")
    content = (mounted / "gathered").read_bytes()
    assert content == b"g" * len(content), "nothing but what was written, as far as it came"
