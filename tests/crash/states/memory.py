"""The store's filesystem in memory: the whole of `fsdriver.backing.Backing` over an image.

Behaves as ext4 does for root, errno by errno (tests/crash/test_states.py compares it with a real
folder), and tells a recorder of every change and every sync. Permissions are not checked, and
a clock that counts stands for the time, so that a workload gives the same recording every time.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence

from fsdriver.backing import RENAME_EXCHANGE, RENAME_NOREPLACE, Backing, Buffer
from fsdriver.errors import NotAFile
from tests.crash.states import image as images
from tests.crash.states.descriptors import MODIFIED, NAME_MAX, OpenImage, error
from tests.crash.states.image import Image, Node


class MemoryBacking(OpenImage, Backing):
    """One mount's use of an image."""

    # The interface, in the order of Backing

    def open_root(self, path: str) -> int:  # noqa: ARG002 there is one
        return self._descriptor(self.image.root)

    def open_directory(self, folder: int, name: str) -> int:
        key = self._find(folder, name)
        if self.image.nodes[key].kind != stat.S_IFDIR:
            raise error(errno.ENOTDIR, name)
        return self._descriptor(key)

    def stat(self, folder: int, name: str) -> os.stat_result:
        return self._status(self.image.nodes[self._find(folder, name)])

    def stat_open(self, descriptor: int) -> os.stat_result:
        return self._status(self._node(descriptor))

    def birth_time_ns(self, folder: int, name: str) -> int | None:
        self._find(folder, name) if name else self._key(folder)
        return None  # as on a filesystem that keeps none

    def statvfs(self, descriptor: int) -> os.statvfs_result:
        self._node(descriptor)
        return os.statvfs_result((4096, 4096, 10**6, 10**6, 10**6, 10**6, 10**6, 10**6, 0, 255))

    def entries(self, folder: int) -> Iterator[tuple[str, int]]:
        nodes = self.image.nodes
        for name, key in list(self._folder(folder).entries.items()):
            kind = nodes[key].kind
            yield name, kind if kind in (stat.S_IFLNK, stat.S_IFDIR, stat.S_IFREG) else 0

    def inodes(self, folder: int) -> Iterator[tuple[str, int, int]]:
        """(name, file type, inode number)."""
        for name, key in list(self._folder(folder).entries.items()):
            node = self.image.nodes[key]
            known = node.kind in (stat.S_IFLNK, stat.S_IFDIR, stat.S_IFREG)
            yield name, node.kind if known else 0, node.number

    def create_file(self, folder: int, name: str, mode: int) -> int:
        key = self._make("create_file", folder, name, stat.S_IFREG, mode)
        return self._descriptor(key, writable=True)

    def create_nameless(self, folder: int, mode: int) -> int:
        self._folder(folder)
        status = {"mode": mode & 0o7777, "uid": os.geteuid(), "gid": os.getegid()}
        status |= dict.fromkeys(("atime", "mtime", "ctime"), self._now)
        key, self._next_key = self._next_key, self._next_key + 1
        self._change("create_nameless", ("new", key, Node(stat.S_IFREG, self._number(), status)))
        return self._descriptor(key, writable=True)

    def open_file(self, folder: int, name: str, *, writable: bool) -> int:
        key = self._find(folder, name)
        kind = self.image.nodes[key].kind
        if kind == stat.S_IFLNK:
            raise error(errno.ELOOP, name)
        if kind == stat.S_IFDIR and writable:
            raise error(errno.EISDIR, name)
        if kind == stat.S_IFSOCK:
            raise error(errno.ENXIO, name)
        if kind != stat.S_IFREG:
            raise NotAFile(errno.EIO, "the store has something else where a file was", name)
        return self._descriptor(key, writable=writable)

    def open_status(self, folder: int, name: str, *, writable: bool) -> tuple[int, os.stat_result]:
        descriptor = self.open_file(folder, name, writable=writable)
        return descriptor, self.stat_open(descriptor)

    def close(self, descriptor: int) -> None:
        self._key(descriptor)
        del self._open[descriptor]
        self._writable.discard(descriptor)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        return bytes(self._content(descriptor).data[offset : offset + length])

    def read_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        data = self._content(descriptor).data[offset : offset + len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def _content(self, descriptor: int) -> Node:
        node = self._node(descriptor)
        if node.kind == stat.S_IFDIR:
            raise error(errno.EISDIR)
        return node

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> None:
        key = self._key(descriptor)
        if descriptor not in self._writable:
            raise error(errno.EBADF)
        data = b"".join(buffers)
        if data:
            self._change("write", ("write", key, offset, data))
            self._touch(key, *MODIFIED)

    def truncate(self, descriptor: int, length: int) -> None:
        key = self._key(descriptor)
        if descriptor not in self._writable or length < 0:
            raise error(errno.EINVAL)
        self._change("truncate", ("length", key, length))
        self._touch(key, *MODIFIED)

    def data_runs(self, descriptor: int, offset: int) -> Iterator[tuple[int, int]]:
        yield from images.runs(self._content(descriptor), offset)

    def sync(self, descriptor: int) -> None:
        self.recorder.synced(self._key(descriptor), data_only=False)

    def sync_data(self, descriptor: int) -> None:
        self.recorder.synced(self._key(descriptor), data_only=True)

    def sync_filesystem(self, descriptor: int) -> None:
        """syncfs: everything."""
        self._key(descriptor)
        self.recorder.synced_all()

    def reserve(self, descriptor: int, offset: int, length: int) -> None:  # noqa: ARG002
        """fallocate without a change of length: nothing that a program sees; there is room."""
        self._key(descriptor)

    def allocate(self, descriptor: int, offset: int, length: int) -> None:
        self.reserve(descriptor, offset, length)

    def zero(self, descriptor: int, offset: int, length: int) -> None:
        """Like holes here: room is no part of an image."""
        self.clear(descriptor, offset, length)

    def clear(self, descriptor: int, offset: int, length: int) -> None:
        """Zeros, and holes of the whole blocks among them."""
        if descriptor not in self._writable:
            raise error(errno.EBADF)
        self._change("clear", ("clear", self._key(descriptor), offset, length))
        self._touch(self._key(descriptor), *MODIFIED)

    def touch(self, descriptor: int) -> None:
        """mtime and ctime are now."""
        self._touch(self._key(descriptor), *MODIFIED)

    def duplicate(self, descriptor: int) -> int:
        key = self._key(descriptor)
        return self._descriptor(key, writable=descriptor in self._writable)

    def make_directory(self, folder: int, name: str, mode: int) -> None:
        self._make("make_directory", folder, name, stat.S_IFDIR, mode & 0o1777)

    def make_node(self, folder: int, name: str, mode: int, device: int) -> None:
        kind = stat.S_IFMT(mode) or stat.S_IFREG
        if kind not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
            raise error(errno.EPERM if kind == stat.S_IFDIR else errno.EINVAL)
        rdev = device if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
        self._make("make_node", folder, name, kind, stat.S_IMODE(mode), rdev=rdev)

    def make_symlink(self, folder: int, name: str, text: str) -> None:
        if not text:
            raise error(errno.ENOENT)
        if len(os.fsencode(text)) > 4095:
            raise error(errno.ENAMETOOLONG)
        self._make("make_symlink", folder, name, stat.S_IFLNK, 0o777, text=text)

    def read_symlink(self, folder: int, name: str) -> str:
        node = self.image.nodes[self._find(folder, name)]
        if node.kind != stat.S_IFLNK:
            raise error(errno.EINVAL, name)
        return node.text

    def link(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        key = self._find(folder, name)
        self._require_free(new_folder, new_name)
        if self.image.nodes[key].kind == stat.S_IFDIR:
            raise error(errno.EPERM, name)
        self._change("link", ("name", self._key(new_folder), new_name, key))
        self._touch(self._key(new_folder), *MODIFIED)
        self._touch(key, "ctime")

    def link_open(self, descriptor: int, new_folder: int, new_name: str) -> None:
        key = self._key(descriptor)
        self._require_free(new_folder, new_name)
        self._change("link_open", ("name", self._key(new_folder), new_name, key))
        self._touch(self._key(new_folder), *MODIFIED)
        self._touch(key, "ctime")

    def unlink(self, folder: int, name: str) -> None:
        key = self._find(folder, name)
        if self.image.nodes[key].kind == stat.S_IFDIR:
            raise error(errno.EISDIR, name)
        self._change("unlink", ("name", self._key(folder), name, None))
        self._touch(self._key(folder), *MODIFIED)
        self._touch(key, "ctime")

    def remove_directory(self, folder: int, name: str) -> None:
        if name == ".":
            raise error(errno.EINVAL)
        node = self.image.nodes[self._find(folder, name)]
        if node.kind != stat.S_IFDIR:
            raise error(errno.ENOTDIR, name)
        if node.entries:
            raise error(errno.ENOTEMPTY, name)
        self._change("remove_directory", ("name", self._key(folder), name, None))
        self._touch(self._key(folder), *MODIFIED)

    def rename(
        self, folder: int, name: str, new_folder: int, new_name: str, flags: int = 0
    ) -> None:
        old_at, new_at = self._key(folder), self._key(new_folder)
        if "." in (name, new_name):
            raise error(errno.EBUSY)
        moved = self._find(folder, name)
        try:
            victim = self._find(new_folder, new_name)
        except FileNotFoundError:
            victim = None
            if flags == RENAME_EXCHANGE or self._is_gone(new_folder) or not new_name:
                raise
        if victim is not None and flags == RENAME_NOREPLACE:
            raise error(errno.EEXIST, new_name)
        self._check_loops(moved, new_at)
        if victim is not None and victim != moved:
            self._check_loops(
                victim, old_at, otherwise=0 if flags == RENAME_EXCHANGE else errno.ENOTEMPTY
            )
        if victim == moved:
            return
        if flags == RENAME_EXCHANGE:
            changes = [
                ("name", old_at, name, None),
                ("name", new_at, new_name, moved),
                ("name", old_at, name, victim),
            ]
        else:
            if victim is not None:
                self._check_victim(self.image.nodes[moved], self.image.nodes[victim])
            changes = [("name", old_at, name, None), ("name", new_at, new_name, moved)]
        self._change("rename", *changes)
        for key in {old_at, new_at}:
            self._touch(key, *MODIFIED)
        self._touch(moved, "ctime")

    def _check_loops(self, moved: int, into: int, otherwise: int = 0) -> None:
        """A folder cannot be moved into itself; nor be replaced by what lies in it."""
        node = self.image.nodes[moved]
        if node.kind == stat.S_IFDIR:
            inside = Image(self.image.nodes, moved).reachable()
            if into in inside:
                raise error(otherwise or errno.EINVAL)

    @staticmethod
    def _check_victim(moved: Node, victim: Node) -> None:
        if moved.kind == stat.S_IFDIR and victim.kind != stat.S_IFDIR:
            raise error(errno.ENOTDIR)
        if victim.kind == stat.S_IFDIR and moved.kind != stat.S_IFDIR:
            raise error(errno.EISDIR)
        if victim.kind == stat.S_IFDIR and victim.entries:
            raise error(errno.ENOTEMPTY)

    def change_mode(self, folder: int, name: str, mode: int) -> None:
        key = self._find(folder, name)
        if self.image.nodes[key].kind == stat.S_IFLNK:
            raise error(errno.EOPNOTSUPP, name)
        self._set("change_mode", key, mode=stat.S_IMODE(mode))

    def change_owner(self, folder: int, name: str, uid: int, gid: int) -> None:
        self._own("change_owner", self._find(folder, name), uid, gid)

    def change_times(self, folder: int, name: str, atime_ns: int, mtime_ns: int) -> None:
        key = self._find(folder, name)
        self._set("change_times", key, atime=atime_ns, mtime=mtime_ns)

    def change_open_mode(self, descriptor: int, mode: int) -> None:
        self._set("change_open_mode", self._key(descriptor), mode=stat.S_IMODE(mode))

    def change_open_owner(self, descriptor: int, uid: int, gid: int) -> None:
        self._own("change_open_owner", self._key(descriptor), uid, gid)

    def change_open_times(self, descriptor: int, atime_ns: int, mtime_ns: int) -> None:
        key = self._key(descriptor)
        self._set("change_open_times", key, atime=atime_ns, mtime=mtime_ns)

    def _set(self, call: str, key: int, **fields: int) -> None:
        self._change(call, *(("set", key, field, value) for field, value in fields.items()))
        self._touch(key, "ctime")

    def _own(self, call: str, key: int, uid: int, gid: int) -> None:
        fields = {field: value for field, value in (("uid", uid), ("gid", gid)) if value != -1}
        node = self.image.nodes[key]
        mode = node.status["mode"]
        if node.kind not in (stat.S_IFDIR, stat.S_IFLNK):
            mode &= ~stat.S_ISUID
            if mode & stat.S_IXGRP:
                mode &= ~stat.S_ISGID
        self._set(call, key, mode=mode, **fields)

    def xattr_names(self, folder: int, name: str) -> list[str]:
        return list(self.image.nodes[self._at(folder, name)].xattrs)

    def get_xattr(self, folder: int, name: str, attribute: str) -> bytes:
        node = self.image.nodes[self._of_attribute(folder, name, attribute)]
        if attribute not in node.xattrs or not _may_have(node):
            raise error(errno.ENODATA)
        return node.xattrs[attribute]

    def set_xattr(self, folder: int, name: str, attribute: str, value: bytes, flags: int) -> None:
        key = self._of_attribute(folder, name, attribute)
        node = self.image.nodes[key]
        if not _may_have(node):
            raise error(errno.EPERM)
        if flags == os.XATTR_CREATE and attribute in node.xattrs:
            raise error(errno.EEXIST)
        if flags == os.XATTR_REPLACE and attribute not in node.xattrs:
            raise error(errno.ENODATA)
        self._change("set_xattr", ("xattr", key, attribute, bytes(value)))
        self._touch(key, "ctime")

    def remove_xattr(self, folder: int, name: str, attribute: str) -> None:
        key = self._of_attribute(folder, name, attribute)
        node = self.image.nodes[key]
        if not _may_have(node):
            raise error(errno.EPERM)
        if attribute not in node.xattrs:
            raise error(errno.ENODATA)
        self._change("remove_xattr", ("xattr", key, attribute, None))
        self._touch(key, "ctime")

    def _of_attribute(self, folder: int, name: str, attribute: str) -> int:
        if len(attribute) > NAME_MAX:
            raise error(errno.ERANGE)
        return self._at(folder, name)

    def _at(self, folder: int, name: str) -> int:
        return self._find(folder, name) if name else self._key(folder)


def _may_have(node: Node) -> bool:
    """user.* attributes are for files and folders."""
    return node.kind in (stat.S_IFREG, stat.S_IFDIR)
