"""An image in use: descriptors, look-ups, new inodes, stat; and who is told of each change."""

import errno
import os
import stat

from tests.crash.states import image as images
from tests.crash.states.image import Change, Image, Node

NAME_MAX = 255
_DEVICE = 77
_TICK = 1_000_000
MODIFIED = ("mtime", "ctime")


class Recorder:
    """Told of what a backing did; this one forgets it."""

    def changed(self, call: str, *changes: Change) -> None:
        """One call's effect on the page cache, in one step."""

    def synced(self, key: int, *, data_only: bool) -> None:
        """fsync or fdatasync of a file or folder returned."""

    def synced_all(self) -> None:
        """syncfs returned."""


class OpenImage:
    """Descriptors of an image, and what every call is made of."""

    def __init__(self, image: Image, recorder: Recorder | None = None, *, reuse: bool = True):
        self.image = image
        self.recorder = recorder or Recorder()
        self.changes = 0
        """How many calls changed the image."""
        self._reuse = reuse
        self._open: dict[int, int] = {}
        self._writable: set[int] = set()
        self._next = 1000
        self._next_key = max(image.nodes) + 1
        self._now = 1_700_000_000_000_000_000

    def _change(self, call: str, *changes: Change) -> None:
        self.changes += 1
        for change in changes:
            self.image.apply(change)
        self.recorder.changed(call, *changes)

    def _touch(self, key: int, *fields: str) -> None:
        """Times are no part of a state, so they are not recorded."""
        self._now += _TICK
        status = self.image.own(key).status
        for field in fields:
            status[field] = self._now

    def _node(self, descriptor: int) -> Node:
        return self.image.nodes[self._key(descriptor)]

    def _key(self, descriptor: int) -> int:
        try:
            return self._open[descriptor]
        except KeyError:
            raise error(errno.EBADF) from None

    def _folder(self, descriptor: int) -> Node:
        node = self._node(descriptor)
        if node.kind != stat.S_IFDIR:
            raise error(errno.ENOTDIR)
        return node

    def _find(self, folder: int, name: str) -> int:
        entries = self._folder(folder).entries
        if not name:
            raise error(errno.ENOENT)
        if len(os.fsencode(name)) > NAME_MAX:
            raise error(errno.ENAMETOOLONG)
        if name == ".":
            return self._key(folder)
        if name not in entries:
            raise error(errno.ENOENT, name)
        return entries[name]

    def _require_free(self, folder: int, name: str) -> None:
        try:
            self._find(folder, name)
        except FileNotFoundError:
            if not name or self._is_gone(folder):
                raise
            return
        raise error(errno.EEXIST, name)

    def _is_gone(self, folder: int) -> bool:
        """A removed folder takes no new entries."""
        key = self._key(folder)
        return key != self.image.root and not self.image.nodes[key].links

    def _descriptor(self, key: int, *, writable: bool = False) -> int:
        self._next += 1
        self._open[self._next] = key
        if writable:
            self._writable.add(self._next)
        return self._next

    def _make(self, call: str, folder: int, name: str, kind: int, mode: int, **more: object) -> int:
        self._require_free(folder, name)
        parent = self._folder(folder)
        self._now += _TICK
        times = dict.fromkeys(("atime", "mtime", "ctime"), self._now)
        inherits = parent.status["mode"] & stat.S_ISGID
        if inherits and kind == stat.S_IFDIR:
            mode |= stat.S_ISGID
        group = parent.status["gid"] if inherits else os.getegid()
        status = {"mode": mode & 0o7777, "uid": os.geteuid(), "gid": group} | times
        key = self._next_key
        self._next_key += 1
        node = Node(kind, self._number(), status)
        for field, value in more.items():
            setattr(node, field, value)
        self._change(call, ("new", key, node), ("name", self._key(folder), name, key))
        self._touch(self._key(folder), *MODIFIED)
        return key

    def _number(self) -> int:
        """ext4 gives the lowest number out that is free."""
        alive = set(self._open.values())
        nodes = self.image.nodes
        taken = {
            node.number
            for key, node in nodes.items()
            if not self._reuse or node.links or key in alive or key == self.image.root
        }
        number = 12
        while number in taken:
            number += 1
        return number

    def _status(self, node: Node) -> os.stat_result:
        times = [node.status[field] for field in ("atime", "mtime", "ctime")]
        links, size = node.links, len(node.data)
        if node.kind == stat.S_IFDIR:
            nodes = self.image.nodes
            inner = sum(nodes[key].kind == stat.S_IFDIR for key in node.entries.values())
            links = 2 + inner if node.links or node is nodes[self.image.root] else 0
            size = images.BLOCK
        elif node.kind == stat.S_IFLNK:
            size = len(os.fsencode(node.text))
        return os.stat_result(
            (
                node.kind | node.status["mode"],
                node.number,
                _DEVICE,
                links,
                node.status["uid"],
                node.status["gid"],
                size,
                *(at // 10**9 for at in times),
                *(at / 10**9 for at in times),
                *times,
                images.BLOCK,
                len(node.blocks) * (images.BLOCK // 512),
                node.rdev,
            )
        )


def error(code: int, name: str = "") -> OSError:
    return OSError(code, os.strerror(code), name) if name else OSError(code, os.strerror(code))
