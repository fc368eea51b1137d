"""Extended attributes of files and folders: only `user.*`, names and values encrypted.

`security.*` is refused on purpose: without security.capability a write never has to drop one, and
the kernel's question for it before each write is answered without touching the store. ACLs and
`trusted.*` are not supported (FORMAT.md section 10).
"""

import errno
import stat
from typing import Final

from fsdriver.errors import NameInvalid, refuse
from fsdriver.format.names import NAME_MAX, XATTR_PREFIX, NameCipher
from fsdriver.inodes import Inode
from fsdriver.tree import Tree

_USER: Final = b"user."
NEVER_THERE: Final = b"security.capability"
"""What the kernel asks for before it lets somebody write, of any file: ENODATA."""


class ExtendedAttributes:
    """get, set, list and remove, on inodes of one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._backing = tree.backing

    def get(self, inode: Inode, name: bytes) -> bytes:
        """ENODATA when there is none."""
        if not name.startswith(_USER) or not _may_have(inode):
            raise refuse(errno.ENODATA)
        place = self._place(inode)
        if not self._names(place):
            raise refuse(errno.ENODATA)
        cipher, owner = self._owner(inode)
        stored = self._backing.get_xattr(*place, _backing_name(cipher, owner, name))
        return cipher.decrypt_xattr_value(owner, name, stored)

    def set(self, inode: Inode, name: bytes, value: bytes, flags: int) -> None:
        """`flags` as in setxattr(2): 0, XATTR_CREATE or XATTR_REPLACE."""
        self._check(inode, name)
        cipher, owner = self._owner(inode)
        sealed = cipher.encrypt_xattr_value(owner, name, value)
        attribute = _backing_name(cipher, owner, name)
        self._backing.set_xattr(*self._place(inode), attribute, sealed, flags)

    def remove(self, inode: Inode, name: bytes) -> None:
        """ENODATA when there is none."""
        self._check(inode, name)
        cipher, owner = self._owner(inode)
        self._backing.remove_xattr(*self._place(inode), _backing_name(cipher, owner, name))

    def names(self, inode: Inode) -> list[bytes]:
        """Names that this file's key wrote; a foreign one is reported and left out."""
        if not _may_have(inode):
            return []
        found = self._names(self._place(inode))
        if not found:
            return []
        cipher, owner = self._owner(inode)
        names = []
        for attribute in found:
            try:
                names.append(cipher.decrypt_xattr_name(owner, attribute))
            except NameInvalid as error:
                self._tree.report(inode, error)
        return names

    def _names(self, place: tuple[int, str]) -> list[str]:
        """Asked first, since most files have none and need no header read to say so."""
        try:
            listed = self._backing.xattr_names(*place)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return []
            raise
        return [name for name in listed if name.startswith(XATTR_PREFIX)]

    def _check(self, inode: Inode, name: bytes) -> None:
        if not name.startswith(_USER):
            raise refuse(errno.EOPNOTSUPP)
        if not _may_have(inode):
            raise refuse(errno.EPERM)

    def _owner(self, inode: Inode) -> tuple[NameCipher, bytes]:
        """The cipher, and the id that an attribute is bound to."""
        if inode.kind == stat.S_IFDIR:
            folder = self._tree.folder(inode)
            return folder.site.names, folder.record.directory_id
        parent = self._tree.place(inode).folder if inode.open is None else None
        with self._tree.sealed(inode, writable=False) as file:
            names = parent.site.names if parent else self._tree.site(file.lease.site_id).names
            return names, file.file_id

    def _place(self, inode: Inode) -> tuple[int, str]:
        if inode.kind == stat.S_IFDIR:
            return self._tree.folder(inode).descriptor, ""
        if inode.open is not None:
            return inode.open.file.descriptor, ""
        place = self._tree.place(inode)
        return place.folder.descriptor, place.name.text


def _may_have(inode: Inode) -> bool:
    return inode.kind in (stat.S_IFREG, stat.S_IFDIR) and not inode.foreign


def _backing_name(cipher: NameCipher, owner: bytes, name: bytes) -> str:
    attribute = cipher.encrypt_xattr_name(owner, name)
    if len(attribute) > NAME_MAX:
        # setxattr(2) says so of a name that is too long.
        raise refuse(errno.ERANGE)
    return attribute
