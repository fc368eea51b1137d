"""Opens one backing file: its header, its name, what the host knows of it, and what a stop left.

Changes nothing in the store but a file that a stopped driver left behind.
"""

import errno
from collections.abc import Callable
from typing import NamedTuple

from fsdriver.backing import Backing
from fsdriver.errors import HeaderInvalid, Recovered
from fsdriver.expectations import Expectations
from fsdriver.folder import BackingName, Folder
from fsdriver.format.geometry import HEADER_SIZE, Geometry
from fsdriver.format.header import BINDINGS
from fsdriver.inodes import Inode
from fsdriver.rebinding import rebind, rebind_to_none
from fsdriver.recovery import recover
from fsdriver.sealedfile import SealedFile
from fsdriver.sessions import Session


class Place(NamedTuple):
    """Where an inode lies: an open folder and a backing name in it."""

    folder: Folder
    name: BackingName


class Opener:
    """Of one mount."""

    def __init__(
        self,
        backing: Backing,
        session: Session,
        expectations: Expectations,
        geometry: Geometry,
        report: Callable[[Inode, Exception], None],
    ) -> None:
        self._backing = backing
        self._session = session
        self._expectations = expectations
        self._geometry = geometry
        self._report = report

    def open(self, inode: Inode, place: Place, *, writable: bool, read_only: bool) -> SealedFile:
        """Raises a Damaged error or what the key hierarchy raises; nothing stays open then.

        Opened for writing where that is possible, whatever is asked: one header serves all.
        """
        folder, text = place.folder.descriptor, place.name.text
        writable = writable or not read_only
        try:
            descriptor, status = self._backing.open_status(folder, text, writable=writable)
        except OSError as error:
            if not writable or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            writable = False
            descriptor, status = self._backing.open_status(folder, text, writable=False)
        try:
            length: int | None = status.st_size
            linked = status.st_nlink > 1
            if writable and self._session.follows_a_stop:
                self._bear(inode, descriptor, place)
                length = None
            return self._open(inode, descriptor, place, length, writable=writable, linked=linked)
        except BaseException:
            self._backing.close(descriptor)
            raise

    def _open(
        self,
        inode: Inode,
        descriptor: int,
        place: Place,
        length: int | None,
        *,
        writable: bool,
        linked: bool,
    ) -> SealedFile:
        folder, binding = place.folder, place.name.binding
        file = SealedFile.open(
            self._backing,
            descriptor,
            folder.site.lease,
            self._session,
            writable=writable,
            length=length,
        )
        if file.geometry.chunk_size != self._geometry.chunk_size:
            raise HeaderInvalid(
                f"the file has chunks of {file.geometry.chunk_size} bytes, its store of "
                f"{self._geometry.chunk_size}: it comes from another store"
            )
        if not file.provisional:
            file.check_binding(binding)
        taken = self._expectations.meet(
            folder, place.name.text, file.file_id, provisional=file.provisional, linked=linked
        )
        if taken is not None:
            self._report(inode, taken)
        if file.provisional:
            self._recover(inode, file, binding)
        elif file.state.unbound and writable:
            self._bind_again(file, binding)
        if file.trimmed:
            self._report(
                inode, Recovered(f"{file.trimmed} bytes behind its sealed end were cut off")
            )
        return file

    def _bind_again(self, file: SealedFile, binding: bytes) -> None:
        """A file that had too many links to be bound to each, and has one left."""
        if self._backing.stat_open(file.descriptor).st_nlink == 1:
            rebind(file, (binding,))

    def _recover(self, inode: Inode, file: SealedFile, binding: bytes) -> None:
        bound = binding in file.state.bindings or file.state.unbound
        if not bound:
            # Its rename reached the disk before its header did. Its other names may be those of
            # further links, so all of them stay.
            room = len(file.state.bindings) < BINDINGS
            file.state.bindings = (*file.state.bindings, binding) if room else ()
            file.state.unbound = not room
        size, lost, changed = recover(file)
        if not changed and bound:
            return
        also = f", {lost} chunks were never written whole" if lost else ""
        if not changed and file.writable and file.state.unbound:
            rebind_to_none(file)
        elif not changed and file.writable:
            rebind(file, file.state.bindings)
        self._report(
            inode, Recovered(f"was being written when its driver stopped: {size} bytes kept{also}")
        )

    def _bear(self, inode: Inode, descriptor: int, place: Place) -> None:
        """A file whose driver stopped before it had its header: empty, and sealed as such."""
        raw = self._backing.read(descriptor, HEADER_SIZE, 0)
        if any(raw) or not self._expectations.may_be_unborn(place.folder, place.name.text):
            return
        self._backing.truncate(descriptor, 0)
        born = SealedFile.create(
            self._backing,
            descriptor,
            place.folder.site.lease,
            self._session,
            self._geometry.chunk_size,
            (place.name.binding,),
        )
        self._expectations.made(place.folder, place.name.text, born.file_id)
        self._report(inode, Recovered("was being made when its driver stopped: it is empty"))
