"""What a filesystem holds at one moment: inodes, names, bytes, holes; and how a change alters it.

An image is copied by reference and altered by copying the inode first, so that the hundreds of
states of one recording share what they have in common. Changes are plain tuples, since they are
recorded, reordered and replayed:

    ("new", key, Node)               an inode without a name
    ("name", folder, name, key)      a name in a folder; None instead of the key takes it away
    ("set", key, field, value)       mode, owner, times
    ("xattr", key, name, value)      None takes it away
    ("length", key, bytes)           cut, or extend by a hole
    ("write", key, offset, bytes)    content; the file grows to its end
    ("clear", key, offset, bytes)    so many bytes become zeros, whole blocks among them a hole

`key` stands for one inode for ever. The inode number that programs see is a field, because a
filesystem gives it out again.
"""

import os
import stat
from collections.abc import Iterator
from hashlib import blake2b

BLOCK = 4096
"""Bytes of a block: the grain of holes, and of what a truncation frees."""

Change = tuple


class Node:
    """One inode. `links` counts names; `blocks` are those of a file that are no hole."""

    __slots__ = (
        "blocks",
        "data",
        "digest",
        "entries",
        "kind",
        "links",
        "number",
        "rdev",
        "status",
        "text",
        "xattrs",
    )

    def __init__(self, kind: int, number: int, status: dict[str, int], *, rdev: int = 0) -> None:
        self.kind = kind
        self.number = number
        self.status = status
        """mode (permission bits), uid, gid, and atime, mtime, ctime in nanoseconds."""
        self.rdev = rdev
        self.links = 0
        self.xattrs: dict[str, bytes] = {}
        self.entries: dict[str, int] = {}
        self.text = ""
        self.data: bytes | bytearray = b""
        self.blocks: set[int] = set()
        self.digest = b""

    def copy(self) -> "Node":
        """One that can be altered without the other noticing."""
        made = Node(self.kind, self.number, dict(self.status), rdev=self.rdev)
        made.links = self.links
        made.xattrs = dict(self.xattrs)
        made.entries = dict(self.entries)
        made.text = self.text
        made.data = bytearray(self.data) if self.kind == stat.S_IFREG else self.data
        made.blocks = set(self.blocks)
        return made

    def content_digest(self) -> bytes:
        """Of everything but the times: two inodes that differ in those alone are one state."""
        if not self.digest:
            self.digest = blake2b(
                repr(
                    (
                        self.kind,
                        self.number,
                        self.links,
                        [self.status[field] for field in ("mode", "uid", "gid")],
                        sorted(self.xattrs.items()),
                        sorted(self.entries.items()),
                        self.text,
                        sorted(self.blocks),
                    )
                ).encode()
                + bytes(self.data),
                digest_size=16,
            ).digest()
        return self.digest


class Image:
    """All inodes of one filesystem, by key."""

    __slots__ = ("_own", "nodes", "root")

    def __init__(self, nodes: dict[int, Node], root: int) -> None:
        self.nodes = nodes
        self.root = root
        self._own: set[int] = set()

    def copy(self) -> "Image":
        """From here on neither sees what is done to the other."""
        self._own.clear()
        return Image(dict(self.nodes), self.root)

    def own(self, key: int) -> Node:
        """The inode, to be altered in this image alone."""
        node = self.nodes[key]
        if key not in self._own:
            node = self.nodes[key] = node.copy()
            self._own.add(key)
        node.digest = b""
        return node

    def apply(self, change: Change) -> None:
        """One change; see the module's head."""
        kind, key = change[0], change[1]
        if kind == "new":
            self.nodes[key] = change[2]
            return
        node = self.own(key)
        if kind == "write":
            _write(node, change[2], change[3])
        elif kind == "length":
            _cut(node, change[2])
        elif kind == "clear":
            clear(node, change[2], change[3])
        elif kind == "name":
            self._name(node, change[2], change[3])
        elif kind == "xattr":
            if change[3] is None:
                node.xattrs.pop(change[2], None)
            else:
                node.xattrs[change[2]] = change[3]
        else:
            node.status[change[2]] = change[3]

    def _name(self, folder: Node, name: str, key: int | None) -> None:
        old = folder.entries.pop(name, None)
        if old is not None:
            self.own(old).links -= 1
        if key is not None:
            folder.entries[name] = key
            self.own(key).links += 1

    def reachable(self) -> dict[int, Node]:
        """What has a name, from the root on."""
        found: dict[int, Node] = {}
        waiting = [self.root]
        while waiting:
            key = waiting.pop()
            if key not in found:
                found[key] = node = self.nodes[key]
                waiting.extend(node.entries.values())
        return found

    def digest(self) -> bytes:
        """The same for two images that show a program the same, times left out."""
        parts = sorted((key, node.content_digest()) for key, node in self.reachable().items())
        return blake2b(repr(parts).encode(), digest_size=16).digest()

    def numbers(self) -> dict[int, int]:
        """Inode number -> key, of what has a name."""
        return {node.number: key for key, node in self.reachable().items()}


def _write(node: Node, offset: int, data: bytes) -> None:
    content = node.data
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
    if data:
        node.blocks.update(range(offset // BLOCK, -(-(offset + len(data)) // BLOCK)))


def _cut(node: Node, length: int) -> None:
    content = node.data
    if length < len(content):
        del content[length:]
        stop = -(-length // BLOCK)
        node.blocks = {block for block in node.blocks if block < stop}
    else:
        content.extend(bytes(length - len(content)))


def clear(node: Node, offset: int, length: int) -> None:
    """See the module's head."""
    end = min(offset + length, len(node.data))
    if end > offset:
        node.data[offset:end] = bytes(end - offset)
    node.blocks -= set(whole_blocks(offset, length))


def whole_blocks(offset: int, length: int) -> range:
    """Those that lie in a range from the first byte to the last."""
    return range(-(-offset // BLOCK), (offset + length) // BLOCK)


def runs(node: Node, offset: int) -> Iterator[tuple[int, int]]:
    """[start, end) of what is no hole of a file, from `offset` on."""
    size = len(node.data)
    while offset < size:
        block = offset // BLOCK
        while block not in node.blocks:
            block += 1
            if block * BLOCK >= size:
                return
        start = max(offset, block * BLOCK)
        while block in node.blocks:
            block += 1
        end = min(size, block * BLOCK)
        yield start, end
        offset = end


def from_folder(path: str) -> Image:
    """A folder of this machine, with everything below it."""
    nodes: dict[int, Node] = {}
    keys: dict[int, int] = {}

    def take(place: str) -> int:
        status = os.lstat(place)
        if status.st_ino in keys:
            return keys[status.st_ino]
        kind = stat.S_IFMT(status.st_mode)
        key = keys[status.st_ino] = len(keys) + 2
        times = {name: getattr(status, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")}
        owner = {"uid": status.st_uid, "gid": status.st_gid}
        mode = {"mode": stat.S_IMODE(status.st_mode)}
        node = nodes[key] = Node(kind, key, mode | owner | times, rdev=status.st_rdev)
        if kind == stat.S_IFDIR:
            for name in sorted(os.listdir(place)):
                child = node.entries[name] = take(os.path.join(place, name))
                nodes[child].links += 1
        elif kind == stat.S_IFREG:
            with open(place, "rb") as file:
                node.data = file.read()
            node.blocks = set(range(-(-len(node.data) // BLOCK)))
        elif kind == stat.S_IFLNK:
            node.text = os.readlink(place)
        return key

    return Image(nodes, take(path))
