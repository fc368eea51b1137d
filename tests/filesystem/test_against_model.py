"""Any sequence of operations gives what a plain model of files gives, after remounts and kills."""

import errno
import os
import shutil
import tempfile

import hypothesis.strategies as st
import pytest
from driver import CALLER, IN_MEMORY, Driver
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fsdriver.backing import RENAME_EXCHANGE, RENAME_NOREPLACE
from fsdriver.changes import Changes

NAMES = st.sampled_from(["a", "b", "ö" * 40, "n" * 200])
FOLDERS = st.sampled_from(["", "a", "b", "a/b", "ö" * 40, "n" * 200])
OFFSETS = st.one_of(st.integers(0, 30_000), st.sampled_from([0, 1, 4095, 4096, 4097, 8192, 40_960]))
LENGTHS = st.one_of(st.integers(1, 20_000), st.sampled_from([1, 4096, 8192]))
SIZES = st.one_of(OFFSETS, st.just(1 << 20))


def _split(path):
    parent, _slash, name = path.rpartition("/")
    return parent, name


class File:
    def __init__(self):
        self.content = bytearray()
        self.xattrs = {}


class Folder:
    def __init__(self):
        self.entries = {}
        self.xattrs = {}


class Symlink:
    def __init__(self, target):
        self.target = target


class Refused(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.place = tempfile.mkdtemp(prefix="ckfs-model-", dir=IN_MEMORY)
        self.root = Folder()
        self.steps = None
        """Of a checkpoint that was begun."""

    @initialize(plaintext_names=st.booleans())
    def start(self, plaintext_names):
        self.driver = Driver(self.place, plaintext_names=plaintext_names)
        # Something to work on from the first step; most names of the strategies exist.
        for folder in ("a", "a/b", "n" * 200):
            self.mkdir(*_split(folder))
        for file in ("b", "a/a", "a/b/a", "a/b/" + "n" * 200):
            self.create(*_split(file))
            self.write(*_split(file), 0, 10_000, 7)

    def teardown(self):
        if hasattr(self, "driver"):
            self.driver.close()
        shutil.rmtree(self.place)

    # The model

    def folder(self, path):
        node = self.root
        for part in path.split("/"):
            if not part:
                continue
            if not isinstance(node, Folder):
                raise Refused(errno.ENOTDIR)
            if part not in node.entries:
                raise Refused(errno.ENOENT)
            node = node.entries[part]
        if not isinstance(node, Folder):
            raise Refused(errno.ENOTDIR)
        return node

    def numbers(self, path):
        """The driver's side of `folder`; refuses where the kernel's walk would."""
        number = 1
        for part in path.split("/"):
            if part:
                if not self.driver.is_folder(number):
                    raise OSError(errno.ENOTDIR, "not a folder")
                number = self.driver.fs.lookup(number, part.encode()).number
        if not self.driver.is_folder(number):
            raise OSError(errno.ENOTDIR, "not a folder")
        return number

    def both(self, in_model, in_driver):
        """The same result from both, or the same errno."""
        try:
            expected, code = in_model(), None
        except Refused as refused:
            expected, code = None, refused.code
        if code is None:
            return expected, in_driver()
        with pytest.raises(OSError) as caught:  # noqa: PT011 its errno is compared below
            in_driver()
        assert caught.value.errno == code
        return None, None

    def entry(self, path, name, kind=None):
        entries = self.folder(path).entries
        if name not in entries:
            raise Refused(errno.ENOENT)
        if kind and not isinstance(entries[name], kind):
            raise Refused(errno.ENOENT)
        return entries[name]

    # Rules

    @rule(path=FOLDERS, name=NAMES)
    def create(self, path, name):
        def in_model():
            entries = self.folder(path).entries
            if name in entries:
                raise Refused(errno.EEXIST)
            entries[name] = File()

        def in_driver():
            fs = self.driver.fs
            _attributes, handle = fs.create(
                self.numbers(path), name.encode(), 0o644, os.O_RDWR, CALLER
            )
            fs.release(handle)

        self.both(in_model, in_driver)

    def existing(self, path, name):
        """The model's file and the driver's number, or None where there is no such file."""
        try:
            node = self.entry(path, name)
        except Refused:
            return None
        if not isinstance(node, File):
            return None
        return node, self.driver.fs.lookup(self.numbers(path), name.encode()).number

    @rule(path=FOLDERS, name=NAMES, offset=OFFSETS, length=LENGTHS, seed=st.integers(0, 255))
    def write(self, path, name, offset, length, seed):
        found = self.existing(path, name)
        if not found:
            return
        file, number = found
        data = bytes((seed + index) % 251 for index in range(length))
        handle = self.driver.fs.open(number, os.O_WRONLY)
        assert self.driver.fs.write(handle, offset, data) == length
        if seed % 2:
            self.driver.fs.flush(handle)
        self.driver.fs.release(handle)
        if offset > len(file.content):
            file.content.extend(bytes(offset - len(file.content)))
        file.content[offset : offset + length] = data

    @rule(path=FOLDERS, name=NAMES, size=SIZES)
    def truncate(self, path, name, size):
        found = self.existing(path, name)
        if not found:
            return
        file, number = found
        assert self.driver.fs.setattr(number, Changes(size=size)).size == size
        del file.content[size:]
        file.content.extend(bytes(size - len(file.content)))

    @rule(path=FOLDERS, name=NAMES, offset=OFFSETS, length=LENGTHS)
    def read(self, path, name, offset, length):
        found = self.existing(path, name)
        if not found:
            return
        file, number = found
        handle = self.driver.fs.open(number, os.O_RDONLY)
        got = bytes(self.driver.fs.read(handle, offset, length))
        self.driver.fs.release(handle)
        assert got == bytes(file.content[offset : offset + length])

    @rule(path=FOLDERS, name=NAMES)
    def mkdir(self, path, name):
        def in_model():
            entries = self.folder(path).entries
            if name in entries:
                raise Refused(errno.EEXIST)
            entries[name] = Folder()

        self.both(
            in_model,
            lambda: self.driver.fs.mkdir(self.numbers(path), name.encode(), 0o755, CALLER),
        )

    @rule(path=FOLDERS, name=NAMES, text=st.binary(min_size=1, max_size=300))
    def symlink(self, path, name, text):
        target = text.replace(b"\0", b"x")

        def in_model():
            entries = self.folder(path).entries
            if name in entries:
                raise Refused(errno.EEXIST)
            entries[name] = Symlink(target)

        self.both(
            in_model,
            lambda: self.driver.fs.symlink(self.numbers(path), name.encode(), target, CALLER),
        )

    @rule(path=FOLDERS, name=NAMES)
    def unlink(self, path, name):
        def in_model():
            node = self.entry(path, name)
            if isinstance(node, Folder):
                raise Refused(errno.EISDIR)
            del self.folder(path).entries[name]

        self.both(in_model, lambda: self.driver.fs.unlink(self.numbers(path), name.encode()))

    @rule(path=FOLDERS, name=NAMES)
    def rmdir(self, path, name):
        def in_model():
            node = self.entry(path, name)
            if not isinstance(node, Folder):
                raise Refused(errno.ENOTDIR)
            if node.entries:
                raise Refused(errno.ENOTEMPTY)
            del self.folder(path).entries[name]

        self.both(in_model, lambda: self.driver.fs.rmdir(self.numbers(path), name.encode()))

    @rule(path=FOLDERS, name=NAMES, new_path=FOLDERS, new_name=NAMES)
    def link(self, path, name, new_path, new_name):
        def in_model():
            node = self.entry(path, name)
            entries = self.folder(new_path).entries
            if isinstance(node, Folder):
                raise Refused(errno.EPERM)
            if new_name in entries:
                raise Refused(errno.EEXIST)
            entries[new_name] = node

        def in_driver():
            fs = self.driver.fs
            number = fs.lookup(self.numbers(path), name.encode()).number
            fs.link(number, self.numbers(new_path), new_name.encode())

        self.both(in_model, in_driver)

    @rule(
        path=FOLDERS,
        name=NAMES,
        new_path=FOLDERS,
        new_name=NAMES,
        flags=st.sampled_from([0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE]),
        at_once=st.booleans(),
    )
    def rename(self, path, name, new_path, new_name, flags, at_once):
        try:
            node = self.entry(path, name)
            target = self.folder(new_path)
        except Refused:
            return
        other = target.entries.get(new_name)
        if self.below(node, target) or (
            flags == RENAME_EXCHANGE and other is not None and self.below(other, self.folder(path))
        ):
            return  # the kernel refuses a folder's move into itself before it asks
        source = self.folder(path)

        def in_model():
            if flags == RENAME_EXCHANGE:
                if other is None:
                    raise Refused(errno.ENOENT)
                source.entries[name], target.entries[new_name] = other, node
                return
            if other is not None:
                if flags == RENAME_NOREPLACE:
                    raise Refused(errno.EEXIST)
                if other is node:
                    return
                if isinstance(other, Folder):
                    if not isinstance(node, Folder):
                        raise Refused(errno.EISDIR)
                    if other.entries:
                        raise Refused(errno.ENOTEMPTY)
                elif isinstance(node, Folder):
                    raise Refused(errno.ENOTDIR)
            del source.entries[name]
            target.entries[new_name] = node

        def as_a_transport() -> None:
            names = (self.numbers(path), name.encode(), self.numbers(new_path), new_name.encode())
            wait = self.driver.fs.begin_rename(*names, flags)
            if wait is not None:
                wait()
            self.driver.fs.rename(*names, flags, at_once=at_once)

        self.both(in_model, as_a_transport)

    def below(self, node, folder):
        """Whether `folder` is `node` or lies below it."""
        if node is folder:
            return True
        return isinstance(node, Folder) and any(
            self.below(child, folder) for child in node.entries.values()
        )

    @rule(
        path=FOLDERS,
        name=NAMES,
        attribute=st.sampled_from([b"user.x", b"user." + b"y" * 100]),
        value=st.binary(max_size=200),
    )
    def setxattr(self, path, name, attribute, value):
        try:
            node = self.entry(path, name)
        except Refused:
            return
        if isinstance(node, Symlink):
            return
        number = self.driver.fs.lookup(self.numbers(path), name.encode()).number
        self.driver.fs.setxattr(number, attribute, value, CALLER)
        node.xattrs[attribute] = value

    @rule(path=FOLDERS, name=NAMES, data=st.binary(min_size=1, max_size=9000))
    def unlink_while_open(self, path, name, data):
        found = self.existing(path, name)
        if not found:
            return
        file, number = found
        fs = self.driver.fs
        handle = fs.open(number, os.O_RDWR)
        fs.unlink(self.numbers(path), name.encode())
        del self.folder(path).entries[name]
        fs.write(handle, 100, data)
        expected = bytearray(file.content.ljust(100, b"\0"))
        expected[100 : 100 + len(data)] = data
        assert bytes(fs.read(handle, 0, len(expected) + 10)) == bytes(expected)
        file.content[:] = expected
        fs.flush(handle)
        fs.release(handle)

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

    @rule()
    def remount(self):
        if self.steps is not None:
            self.checkpoint(1000)
        self.driver.reopen()

    @rule()
    def kill(self):
        if self.steps is not None:
            self.steps.close()
            self.steps = None
        self.driver.drop()
        self.driver.open()

    @rule(path=FOLDERS, name=NAMES, data=st.binary(min_size=1, max_size=9000))
    def write_and_kill(self, path, name, data):
        found = self.existing(path, name)
        if not found:
            return
        file, number = found
        handle = self.driver.fs.open(number, os.O_RDWR)
        self.driver.fs.write(handle, len(file.content), data)
        file.content += data
        self.kill()

    # Comparison

    @invariant()
    def same(self):
        if hasattr(self, "driver"):
            self.compare(self.root, 1)

    def compare(self, folder, number):
        names = self.driver.names(number)
        assert names.keys() == {name.encode() for name in folder.entries}
        seen = {}
        for name, node in folder.entries.items():
            inode = names[name.encode()]
            attributes = self.driver.fs.getattr(inode)
            if isinstance(node, Folder):
                self.compare(node, inode)
            elif isinstance(node, Symlink):
                assert self.driver.fs.readlink(inode) == node.target
                assert attributes.size == len(node.target)
            else:
                assert seen.setdefault(inode, node) is node
                assert attributes.size == len(node.content)
                handle = self.driver.fs.open(inode, os.O_RDONLY)
                content = bytes(self.driver.fs.read(handle, 0, len(node.content) + 1))
                self.driver.fs.release(handle)
                assert content == bytes(node.content)
            if not isinstance(node, Symlink):
                assert set(self.driver.fs.listxattr(inode)) == set(node.xattrs)
                for attribute, value in node.xattrs.items():
                    assert self.driver.fs.getxattr(inode, attribute) == value


Machine.TestCase.settings = settings(
    max_examples=int(os.environ.get("CKFS_EXAMPLES", "40")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestAgainstModel = Machine.TestCase
