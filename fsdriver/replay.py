"""Puts in place what a stopped driver's journal holds, before anything else uses the store.

Needs no file's key: a transaction has whole records and a whole header. Deltas do need one, and go
on to the next journal (folding.py). Files are found by inode
number, and where the store was copied since, by the file id in their headers. A file that is not
found was deleted.
"""

import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

from fsdriver.backing import Backing
from fsdriver.errors import CkfsError
from fsdriver.folder import CONTROL_FOLDER
from fsdriver.format.geometry import HEADER_SIZE
from fsdriver.format.header import ClearHeader
from fsdriver.journal import Carried, put_in_place, read_frames
from fsdriver.journaled import JournaledFile
from fsdriver.oldjournals import Found, left_behind


class Replayed(NamedTuple):
    """What a replay did."""

    transactions: int
    files: int
    missing: int
    """Files with transactions that are not in the store any more."""


def replay(backing: Backing, root: int, journals: list[Found]) -> tuple[Replayed, list[Carried]]:
    """`journals` with the older epoch first. Durable when it returns; raises OSError.

    Deltas are not put in place, since that takes a file's key: they are given back.
    """
    pending = left_behind(backing, backing.stat_open(root).st_dev, journals)
    wanted = pending.files
    if not wanted:
        return Replayed(pending.transactions, 0, 0), []
    inodes = {file.key[1]: file_id for file_id, file in wanted.items()}
    done: set[bytes] = set()
    troubles: list[OSError] = []

    def by_inode(inode: int, _candidate: _Candidate) -> bytes | None:
        return inodes.get(inode)

    def by_header(_inode: int, candidate: _Candidate) -> bytes | None:
        try:
            return candidate.file_id()
        except OSError as error:
            troubles.append(error)
            return None

    for look in (by_inode, by_header):
        left = wanted.keys() - done
        if not left:
            break
        troubles.clear()
        for file_id, descriptor in _find(backing, root, look, troubles):
            # Of a copied store's hard link there may be several files.
            if file_id in left and (look is by_header or file_id not in done):
                _apply(backing, descriptor, wanted[file_id])
                done.add(file_id)
    if troubles and wanted.keys() - done:
        raise troubles[0]  # the file may lie just there
    carried = [_carried(backing, wanted[file_id]) for file_id in done if wanted[file_id].deltas]
    backing.sync_filesystem(root)
    return Replayed(pending.transactions, len(done), len(wanted) - len(done)), carried


def _carried(backing: Backing, file: JournaledFile) -> Carried:
    file.parts.clear()
    return file, [bytearray(one) for one in read_frames(backing, file)]


def _apply(backing: Backing, descriptor: int, file: JournaledFile) -> None:
    """With deltas it is kept open for the journal that they go on in."""
    for part in file.parts:
        for _bytes in put_in_place(backing, descriptor, file, part):
            pass
    if not file.deltas:
        return
    own = backing.duplicate(descriptor)
    if file.descriptor < 0:
        status = backing.stat_open(own)
        file.descriptor, file.key = own, (status.st_dev, status.st_ino)
    else:
        file.also.append(own)


def _find(
    backing: Backing,
    root: int,
    look: Callable[[int, "_Candidate"], bytes | None],
    troubles: list[OSError],
) -> Iterator[tuple[bytes, int]]:
    """(file id, open descriptor) of every regular file that `look` takes for one, and that is.

    What could not be looked into is added to `troubles`.
    """
    folders = [(backing.duplicate(root), True)]
    while folders:
        folder, is_root = folders.pop()
        try:
            for name, kind, inode in list(backing.inodes(folder)):
                if kind == stat.S_IFDIR and not (is_root and name == CONTROL_FOLDER):
                    try:
                        folders.append((backing.open_directory(folder, name), False))
                    except OSError as error:
                        troubles.append(error)
                elif kind == stat.S_IFREG:
                    with _Candidate(backing, folder, name) as candidate:
                        file_id = look(inode, candidate)
                        if file_id is not None and candidate.file_id() in (file_id, None):
                            yield file_id, candidate.descriptor()
        finally:
            backing.close(folder)


class _Candidate:
    """A backing file that is opened once somebody asks for it."""

    def __init__(self, backing: Backing, folder: int, name: str) -> None:
        self._backing = backing
        self._folder = folder
        self._name = name
        self._descriptor = -1
        self._writable = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._shut()

    def _shut(self) -> None:
        if self._descriptor >= 0:
            self._backing.close(self._descriptor)
            self._descriptor = -1

    def descriptor(self, *, writable: bool = True) -> int:
        """Raises OSError."""
        if self._descriptor < 0 or (writable and not self._writable):
            self._shut()
            self._descriptor = self._backing.open_file(self._folder, self._name, writable=writable)
            self._writable = writable
        return self._descriptor

    def file_id(self) -> bytes | None:
        """The one in the header; None when no header was written before the power went."""
        raw = self._backing.read(self.descriptor(writable=False), HEADER_SIZE, 0)
        if not raw.strip(b"\0"):
            return None
        try:
            return ClearHeader.parse(raw).file_id
        except CkfsError:
            return b""
