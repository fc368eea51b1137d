"""Any sequence of changes to open files, with checkpoints whole and in part, stops and failures.

test_against_model.py has names and folders; here are two files and everything that happens to
their content on its way through the journal to its place.
"""

import errno
import os
import shutil
import tempfile
from contextlib import suppress

import hypothesis.strategies as st
from driver import CALLER, IN_MEMORY, Driver
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fsdriver.backing import Backing
from fsdriver.changes import Changes
from fsdriver.contents import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
from fsdriver.inodes import ROOT

SIZE = 4096
NAMES = st.sampled_from(["f", "g"])
OFFSETS = st.one_of(
    st.integers(0, 6 * SIZE), st.sampled_from([0, 1, SIZE - 1, SIZE, SIZE + 1, 3 * SIZE, 12 * SIZE])
)
LENGTHS = st.one_of(
    st.integers(1, 3 * SIZE), st.integers(1, SIZE // 2), st.sampled_from([1, SIZE, 2 * SIZE])
)
"""Half a chunk and less goes to the journal as a delta."""
BYTES = st.integers(1, 250)
CALLS = st.integers(0, 12)


class Stopped(Exception):
    """SIGKILL, at a call to the store."""


class Stopping(Backing):
    """A store that can be told to stop the driver, or to fail, at one of the next changes."""

    left = -1
    error: Exception = Stopped()

    def arm(self, calls, error):
        self.left, self.error = calls, error

    def _counted(self):
        self.left -= self.left >= 0
        if self.left == 0:
            self.left = -1
            raise self.error

    def write(self, *arguments):
        self._counted()
        super().write(*arguments)

    def truncate(self, *arguments):
        self._counted()
        super().truncate(*arguments)

    def clear(self, *arguments):
        self._counted()
        super().clear(*arguments)

    def zero(self, *arguments):
        self._counted()
        super().zero(*arguments)


class Held:
    """A file that is open in the model and in the driver."""

    def __init__(self, content, handle, number):
        self.content = content
        self.handle = handle
        self.number = number

    def put(self, offset, data):
        self.content.extend(bytes(max(0, offset - len(self.content))))
        self.content[offset : offset + len(data)] = data

    def zero(self, offset, length):
        end = min(offset + length, len(self.content))
        if offset < end:
            self.content[offset:end] = bytes(end - offset)


class ContentMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.place = tempfile.mkdtemp(prefix="ckfs-content-", dir=IN_MEMORY)
        self.files = {}
        self.held = {}
        self.nameless = []
        self.steps = None
        """Of a checkpoint that was begun."""

    @initialize(content=st.sampled_from([b"", b"a" * 100, b"a" * 4 * SIZE]))
    def start(self, content):
        self.backing = Stopping()
        self.driver = Driver(self.place, backing=self.backing)
        for name in ("f", "g"):
            self.driver.write_file(name, content)
            self.files[name] = bytearray(content)

    def teardown(self):
        if hasattr(self, "driver"):
            self.backing.left = -1
            self.driver.close()
        shutil.rmtree(self.place)

    def open_file(self, name):
        if name not in self.held:
            number = self.driver.number(name)
            handle = self.driver.fs.open(number, os.O_RDWR)
            self.held[name] = Held(self.files[name], handle, number)
        return self.held[name]

    # Changes

    @rule(name=NAMES, offset=OFFSETS, length=LENGTHS, byte=BYTES)
    def write(self, name, offset, length, byte):
        file = self.open_file(name)
        self.driver.fs.write(file.handle, offset, bytes([byte]) * length)
        file.put(offset, bytes([byte]) * length)

    @rule(name=NAMES, chunks=st.integers(0, 3), length=st.integers(1, 2 * SIZE), byte=BYTES)
    def write_behind(self, name, chunks, length, byte):
        """From the beginning of a chunk that is not there yet."""
        file = self.open_file(name)
        offset = (-(-len(file.content) // SIZE) + chunks) * SIZE
        self.driver.fs.write(file.handle, offset, bytes([byte]) * length)
        file.put(offset, bytes([byte]) * length)

    @rule(name=NAMES, size=OFFSETS)
    def truncate(self, name, size):
        file = self.open_file(name)
        self.driver.fs.setattr(file.number, Changes(size=size))
        del file.content[size:]
        file.put(size, b"")

    @rule(name=NAMES, offset=OFFSETS, length=LENGTHS)
    def punch(self, name, offset, length):
        file = self.open_file(name)
        self.driver.fs.fallocate(file.handle, KEEP_SIZE | PUNCH_HOLE, offset, length)
        file.zero(offset, length)

    @rule(name=NAMES, offset=OFFSETS, length=LENGTHS, grows=st.booleans(), zeros=st.booleans())
    def allocate(self, name, offset, length, grows, zeros):
        file = self.open_file(name)
        mode = (0 if grows else KEEP_SIZE) | (ZERO_RANGE if zeros else 0)
        self.driver.fs.fallocate(file.handle, mode, offset, length)
        if zeros:
            file.zero(offset, length)
        if grows:
            file.put(offset + length, b"")

    @rule(name=NAMES)
    def close(self, name):
        if name in self.held:
            file = self.held.pop(name)
            self.driver.fs.flush(file.handle)
            self.driver.fs.release(file.handle)

    @rule(name=NAMES, data_only=st.booleans())
    def sync(self, name, data_only):
        self.driver.fs.begin_fsync(self.open_file(name).handle, data_only=data_only)()

    @rule(name=NAMES)
    def make_anew(self, name):
        """An open file loses its name to a new one, and lives on."""
        self.nameless.append(self.open_file(name))
        del self.held[name]
        fs = self.driver.fs
        fs.unlink(ROOT, name.encode())
        _attributes, handle = fs.create(ROOT, name.encode(), 0o644, os.O_RDWR, CALLER)
        fs.release(handle)
        self.files[name] = bytearray()

    @rule(name=NAMES)
    def exchange(self, name):
        """The other file gets this one's name, and this one none."""
        other = "g" if name == "f" else "f"
        if name in self.held:
            self.nameless.append(self.held.pop(name))
        self.driver.fs.rename(ROOT, other.encode(), ROOT, name.encode())
        self.files[name] = self.files.pop(other)
        if other in self.held:
            self.held[name] = self.held.pop(other)
        self.driver.write_file(other, b"new")
        self.files[other] = bytearray(b"new")

    @precondition(lambda self: self.nameless)
    @rule(offset=OFFSETS, length=LENGTHS, byte=BYTES)
    def write_to_one_without_a_name(self, offset, length, byte):
        file = self.nameless[-1]
        self.driver.fs.write(file.handle, offset, bytes([byte]) * length)
        file.put(offset, bytes([byte]) * length)

    @precondition(lambda self: self.nameless)
    @rule()
    def close_one_without_a_name(self):
        file = self.nameless.pop()
        self.driver.fs.flush(file.handle)
        self.driver.fs.release(file.handle)

    # Checkpoints and stops

    @rule(steps=st.one_of(st.just(1000), st.integers(0, 8)))
    def checkpoint(self, steps):
        """The whole of one or a part, and of one that was begun the rest or some more of it."""
        if self.steps is None:
            self.steps = self.driver.fs.checkpoints.steps()
        for _step in range(steps):
            wait = next(self.steps, None)
            if wait is None:
                self.steps = None
                return
            wait()

    @rule(calls=CALLS, code=st.sampled_from([errno.EIO, errno.ENOSPC]))
    def fail(self, calls, code):
        """A call fails in the middle of a checkpoint, which the next one makes up for."""
        self.backing.arm(calls, OSError(code, "failed"))
        try:
            self.checkpoint(1000)
        except OSError as error:
            assert error.errno == code
            self.steps = None
        self.backing.left = -1

    def finish(self):
        """What a stop leaves nobody to finish."""
        if self.steps is not None:
            self.steps.close()
            self.steps = None
        self.held.clear()
        self.nameless.clear()
        self.driver.drop()

    @rule()
    def kill(self):
        self.finish()
        self.driver.open()

    @rule(calls=CALLS, again=CALLS)
    def kill_in_a_checkpoint_and_in_the_replay(self, calls, again):
        self.backing.arm(calls, Stopped())
        with suppress(Stopped):
            self.checkpoint(1000)
        self.finish()
        self.backing.arm(again, Stopped())
        try:
            self.driver.open()
        except Stopped:
            self.driver.open()
        self.backing.left = -1

    @rule(name=NAMES, calls=CALLS, offset=OFFSETS, length=LENGTHS)
    def kill_in_a_write(self, name, calls, offset, length):
        """Nobody was told that it is there: each chunk of it is old or new, and no other is."""
        file = self.open_file(name)
        old = bytes(file.content)
        file.put(offset, b"w" * length)
        new = bytes(file.content)
        self.backing.arm(calls, Stopped())
        try:
            self.driver.fs.write(file.handle, offset, b"w" * length)
        except Stopped:
            self.finish()
            self.driver.open()
            got = self.driver.read_file(name)
            assert len(old) <= len(got) <= len(new)
            for at in range(0, len(got), SIZE):
                versions = [one[at:][: min(SIZE, len(got) - at)] for one in (old, new)]
                part = got[at : at + SIZE]
                assert part in [one.ljust(len(part), b"\0") for one in versions]
            self.files[name] = bytearray(got)
        self.backing.left = -1

    @rule(name=NAMES, calls=CALLS, offset=OFFSETS, length=LENGTHS)
    def kill_in_a_punch(self, name, calls, offset, length):
        """All of it is zeros, or none."""
        file = self.open_file(name)
        old = bytes(file.content)
        file.zero(offset, length)
        self.backing.arm(calls, Stopped())
        with suppress(Stopped):
            self.driver.fs.fallocate(file.handle, KEEP_SIZE | PUNCH_HOLE, offset, length)
            self.backing.left = -1
            return
        self.finish()
        self.driver.open()
        got = self.driver.read_file(name)
        assert got in (old, file.content)
        self.files[name] = bytearray(got)

    @rule()
    def remount(self):
        self.held.clear()
        self.nameless.clear()
        if self.steps is not None:
            self.checkpoint(1000)
        self.driver.reopen()

    @invariant()
    def same(self):
        if not hasattr(self, "driver"):
            return
        for name, content in self.files.items():
            assert self.driver.fs.getattr(self.driver.number(name)).size == len(content)
            assert self.driver.read_file(name) == content
        for file in self.nameless:
            got = self.driver.fs.read(file.handle, 0, len(file.content) + 1)
            assert bytes(got) == file.content


ContentMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("CKFS_EXAMPLES", "60")),
    stateful_step_count=40,
    deadline=None,
    # Each step writes to a store: a smaller example would take minutes to find.
    phases=[one for one in Phase if one is not Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
TestContent = ContentMachine.TestCase
