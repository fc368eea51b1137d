"""Inode numbers of the mount: which backing inode each stands for, and under which names.

A number is the backing inode's own, so that it stays the same from mount to mount, unless the
system has given that to another file while the kernel still knew the first by it. Lookup counts
are the kernel's: an inode stays until it is forgotten as often as it was handed out.
"""

import os
import stat
from typing import TYPE_CHECKING, Final

from fsdriver.errors import Damaged

if TYPE_CHECKING:
    from fsdriver.allocation import AllocatedFile
    from fsdriver.folder import Folder

ROOT: Final = 1
_REUSED: Final = 1 << 48
_REFUSED: Final = 1 << 62

_NOWHERE: Final = -1
"""The key of an inode that stands for no backing inode."""


class Inode:
    """One file, folder or node that the kernel knows."""

    __slots__ = (
        "folder",
        "foreign",
        "key",
        "kind",
        "links",
        "lookups",
        "made_in",
        "name",
        "number",
        "open",
        "parent",
        "prepared",
        "refusal",
        "sync_failed",
        "synced",
        "vetted",
    )

    def __init__(self, number: int, key: int, kind: int) -> None:
        self.number = number
        self.key = key
        """Of the backing inode that it stands for (`InodeTable.key_of`)."""
        self.kind = kind
        self.lookups = 0
        self.parent: Inode | None = None
        self.name = b""
        self.links: list[tuple[Inode, bytes]] | None = None
        """Further names, of a file with several links."""
        self.foreign = ""
        """The backing name of an entry that its folder did not write."""
        self.folder: Folder | None = None
        self.open: AllocatedFile | None = None
        self.refusal: Damaged | None = None
        """Why it only stands for an entry: deleted in the store, or another file's by a link."""
        self.made_in = -1
        """After how many checkpoints' beginnings it was made, if in this mount and never linked."""
        self.prepared: tuple[bytes, int, int] | None = None
        """What a rename under way has sealed it with: binding, generation, checkpoints begun."""
        self.synced = 0
        """The newest generation of its header that is known to be on the disk."""
        self.sync_failed: OSError | None = None
        """What the system says is written after a failed sync may not be: it stays failed."""
        self.vetted = False
        """Whether all that the kernel may have cached of it came of a chunk set found right."""

    def names(self) -> list[tuple["Inode", bytes]]:
        """Every (parent, name) that is known."""
        first = [(self.parent, self.name)] if self.parent is not None else []
        return first + (self.links or [])

    def add_name(self, parent: "Inode", name: bytes) -> None:
        """Another way to it; the first one stays the preferred one."""
        if self.parent is None:
            self.parent, self.name = parent, name
        elif (self.parent is not parent or self.name != name) and (
            self.links is None or (parent, name) not in self.links
        ):
            self.links = [*(self.links or []), (parent, name)]

    def remove_name(self, parent: "Inode", name: bytes) -> None:
        """A name that is gone."""
        if self.links is None:
            if self.parent is parent and self.name == name:
                self.parent, self.name = None, b""
            return
        names = [known for known in self.names() if known != (parent, name)]
        self.parent, self.name = names[0] if names else (None, b"")
        self.links = names[1:] or None

    def path(self) -> str:
        """For messages: the plaintext path from the mount's root."""
        parts: list[str] = []
        inode: Inode | None = self
        while inode is not None and inode.number != ROOT:
            parts.append(os.fsdecode(inode.name) or "(deleted)")
            inode = inode.parent
        return "/" + "/".join(reversed(parts))


class InodeTable:
    """All inodes that the kernel knows, by number and by backing inode.

    Nearly always the one is the other, so that one look-up serves both, and 100,000 files cost no
    second table.
    """

    def __init__(self, root: os.stat_result) -> None:
        self._numbers: dict[int, Inode] = {}
        self._elsewhere: dict[int, Inode] = {}
        """By key, where the number is another."""
        self._device = root.st_dev
        self.root = Inode(ROOT, _NOWHERE, stat.S_IFDIR)
        self.root.lookups = 1
        self._numbers[ROOT] = self.root
        self._give_key(self.root, self.key_of(root))
        self._last_refused = _REFUSED
        self._refused: dict[tuple[Inode | None, bytes], Inode] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def get(self, number: int) -> Inode | None:
        """None for a number that is not, or no longer, known."""
        return self._numbers.get(number)

    def key_of(self, status: os.stat_result) -> int:
        """What tells a backing inode from all others: its own number in the store's filesystem."""
        if status.st_dev == self._device:
            return status.st_ino
        return status.st_dev << 64 | status.st_ino

    def find(self, status: os.stat_result) -> Inode | None:
        """The inode that stands for this backing inode."""
        return self._find(self.key_of(status))

    def _find(self, key: int) -> Inode | None:
        inode = self._numbers.get(key)
        if inode is not None and inode.key == key:
            return inode
        return self._elsewhere.get(key)

    def _give_key(self, inode: Inode, key: int) -> None:
        """Let it stand for this backing inode, and nobody else."""
        before = self._find(key)
        if before is not None:
            self._take_key(before)
        self._take_key(inode)
        inode.key = key
        if key != inode.number:
            self._elsewhere[key] = inode

    def _take_key(self, inode: Inode) -> None:
        if inode.key != inode.number:
            self._elsewhere.pop(inode.key, None)
        inode.key = _NOWHERE

    def number_of(self, backing_number: int) -> int:
        """What a listing says without a status: as `enter` would number a new inode, or does one.

        Never 0: whoever reads folders skips such entries without a word.
        """
        inode = self._find(backing_number)
        if inode is not None:
            return inode.number
        return backing_number if backing_number > ROOT else _REFUSED

    def all(self) -> list[Inode]:
        """Every known inode."""
        return list(self._numbers.values())

    def enter(self, status: os.stat_result, parent: Inode, name: bytes) -> Inode:
        """The inode of a name that was looked up or made; the caller counts the lookup."""
        key = self.key_of(status)
        kind = stat.S_IFMT(status.st_mode)
        numbers = self._numbers
        if key not in numbers and key not in self._elsewhere and ROOT < key < _REUSED:
            # Of nothing that is known: so is most of what is listed or made.
            made = numbers[key] = Inode(key, key, kind)
            made.parent, made.name = parent, name
            return made
        inode = self._find(key)
        if inode is not None and inode.kind != kind:
            # The backing inode was freed and given out again behind the driver's back.
            self.orphan(inode)
            inode = None
        if inode is None:
            inode = self.enter_nameless(status)
            inode.key = key
            if key != inode.number:
                self._elsewhere[key] = inode
        elif kind == stat.S_IFDIR and inode is not self.root:
            inode.parent, inode.name = parent, name
            return inode
        inode.add_name(parent, name)
        return inode

    def enter_nameless(self, status: os.stat_result) -> Inode:
        """A new inode that no name leads to: once one does, give it its key (`replace_key`)."""
        number = status.st_ino
        if status.st_dev != self._device:
            number |= 1 << 47
        while number in self._numbers or number <= ROOT:
            number += _REUSED
        inode = Inode(number, _NOWHERE, stat.S_IFMT(status.st_mode))
        self._numbers[number] = inode
        return inode

    def enter_refused(self, parent: Inode, name: bytes, refusal: Damaged) -> Inode:
        """Of a name that leads to nothing, or to what is not its own."""
        inode = self._refused.get((parent, name))
        if inode is None:
            self._last_refused += 1
            inode = Inode(self._last_refused, _NOWHERE, stat.S_IFREG)
            inode.add_name(parent, name)
            self._numbers[inode.number] = inode
            self._refused[parent, name] = inode
        inode.refusal = refusal
        return inode

    def replace_key(self, inode: Inode, status: os.stat_result) -> None:
        """The same file now lies in another backing inode."""
        self._give_key(inode, self.key_of(status))

    def orphan(self, inode: Inode) -> None:
        """Its last name is gone: the backing inode may be given to another file from now on."""
        self._take_key(inode)
        inode.parent, inode.links = None, None

    def forget(self, number: int, count: int) -> Inode | None:
        """The kernel drops `count` lookups; returns the inode if that was the last of it."""
        inode = self._numbers.get(number)
        if inode is None or number == ROOT:
            return None
        inode.lookups -= count
        return self.drop_if_unused(inode)

    def drop_if_unused(self, inode: Inode) -> Inode | None:
        """Take an inode out that neither the kernel nor a handle needs."""
        if inode.lookups > 0 or inode.open is not None or inode.number == ROOT:
            return None
        self._take_key(inode)
        self._numbers.pop(inode.number, None)
        if inode.refusal is not None:
            self._refused.pop((inode.parent, inode.name), None)
        return inode
