"""From an inode to its place in the store, and from there to folders, headers and attributes.

Resolves and opens; changes nothing in the store but recovering a file that a stopped driver left
behind. What changes names is namespace.py, what changes content is openfile.py.
"""

import errno
import os
import stat
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from fsdriver import resting
from fsdriver.allocation import AllocatedFile
from fsdriver.attributes import AttributeView
from fsdriver.backing import Backing
from fsdriver.buffers import Buffers
from fsdriver.errors import (
    DirectoryRecordInvalid,
    HeaderInvalid,
    NameBindingMismatch,
    refuse,
)
from fsdriver.expectations import Entries, Expectations
from fsdriver.folder import (
    TEMPORARY,
    BackingName,
    Folder,
    KeptNames,
    Listed,
    Site,
    is_own,
    kind_of,
    read_record,
)
from fsdriver.format import directory
from fsdriver.format.geometry import Geometry
from fsdriver.format.names import target_id
from fsdriver.inodes import ROOT, Inode, InodeTable
from fsdriver.opener import Opener, Place
from fsdriver.sealedfile import SealedFile
from fsdriver.sessions import Session

_FOREIGN = BackingName("", bytes(16))


_LISTINGS = 16


class Tree:
    """The store as inodes."""

    def __init__(
        self,
        backing: Backing,
        root_descriptor: int,
        sites: Callable[[bytes], Site],
        *,
        chunk_size: int,
        plaintext_names: bool,
        folders_open: int = 256,
        files_resting: int = resting.FILES,
        session: Session | None = None,
        entries: Entries | None = None,
        owner: tuple[int | None, int | None] = (None, None),
        report: Callable[[Inode, Exception], None] = lambda _inode, _error: None,
    ) -> None:
        self.backing = backing
        self.geometry = Geometry(chunk_size)
        self.buffers = Buffers()
        self.kept_names = KeptNames()
        self.report = report
        self.read_only = False
        self.site = sites
        self._plaintext_names = plaintext_names
        self._folders_open = folders_open
        self.resting = resting.RestingFiles(backing, files_resting)
        backing.spare = self.resting.spare
        self.session = session or Session()
        self.expectations = Expectations(entries, self.session)
        lengths = self.session.journal.lengths if self.session.journal else {}
        self.attributes = AttributeView(self.geometry, lengths, *owner).of
        self.opener = Opener(
            backing,
            self.session,
            self.expectations,
            self.geometry,
            self._say,
        )
        self.changed_in: dict[Inode, int] = {}
        """Folders whose names were changed, and after which checkpoint's beginning."""
        self._recent: OrderedDict[Inode, None] = OrderedDict()
        self._listed: deque[Folder] = deque()
        self.inodes = InodeTable(backing.stat_open(root_descriptor))
        root = self.inodes.root
        root.folder = self._verify(root_descriptor, None, directory.ROOT_BINDING)
        self._reconcile(root, root.folder)

    def _say(self, inode: Inode, error: Exception) -> None:
        self.report(inode, error)  # whoever listens by then

    # Folders

    def folder(self, inode: Inode) -> Folder:
        """The folder of a directory inode, with an open descriptor.

        Raises DirectoryRecordInvalid, OSError ENOTDIR, or ESTALE for one that was removed.
        """
        folder = inode.folder
        if folder is not None and folder.descriptor >= 0:
            if not folder.site.lease.valid:
                folder.site.require()
            if inode in self._recent:
                self._recent.move_to_end(inode)
            return folder
        if inode.kind != stat.S_IFDIR:
            raise refuse(errno.ENOTDIR)
        place = self.place(inode)
        descriptor = self.backing.open_directory(place.folder.descriptor, place.name.text)
        try:
            verified = self._verify(descriptor, place.folder, place.name.binding)
            self.expectations.meet(
                place.folder,
                place.name.text,
                verified.record.directory_id,
                provisional=self.expectations.in_the_works(verified.record),
            )
        except BaseException:
            self.backing.close(descriptor)
            raise
        if folder is None:
            inode.folder = folder = verified
        elif folder.record.directory_id != verified.record.directory_id:
            self.backing.close(descriptor)
            raise DirectoryRecordInvalid("the folder was exchanged for another in the store")
        else:
            folder.descriptor = descriptor
            folder.record = verified.record
        self._recent[inode] = None
        if len(self._recent) > self._folders_open:
            oldest, _ = self._recent.popitem(last=False)
            self._shut(oldest)
        self._reconcile(inode, folder)
        return folder

    def _reconcile(self, inode: Inode, folder: Folder) -> None:
        def present() -> list[tuple[str, int]]:
            listed = list(self.backing.entries(folder.descriptor))
            if self.session.writes:
                self._sweep(folder, listed)
            return [entry for entry in listed if not is_own(entry[0])]

        for taken in self.expectations.reconcile(folder, present):
            self.report(inode, taken)

    def _sweep(self, folder: Folder, listed: list[tuple[str, int]]) -> None:
        """After a stop: files that never got the name that they were made for."""
        for text, kind in listed:
            if text.startswith(TEMPORARY) and kind != stat.S_IFDIR:
                with suppress(OSError):
                    self.backing.unlink(folder.descriptor, text)

    def _verify(self, descriptor: int, parent: Folder | None, binding: bytes) -> Folder:
        raw = read_record(self.backing, descriptor)
        site_id = directory.site_of(raw)
        crosses = parent is None or site_id != parent.site.lease.site_id
        site = self.site(site_id) if crosses or parent is None else parent.site
        record = directory.unseal(raw, site.names.directory_records)
        if crosses and record.directory_id != site.lease.root_directory_id:
            raise DirectoryRecordInvalid(
                f"the folder belongs to site {site_id.hex()} but is not where that site begins: "
                "it was moved here in the store"
            )
        if binding not in record.bindings:
            raise DirectoryRecordInvalid(
                "the folder was sealed under another name: it was moved or swapped in the store"
            )
        self.expectations.meet_record(record)
        return Folder(
            descriptor, site, record, plaintext_names=self._plaintext_names, kept=self.kept_names
        )

    def _shut(self, inode: Inode) -> None:
        folder = inode.folder
        if folder is not None and folder.descriptor >= 0:
            self.backing.close(folder.descriptor)
            folder.descriptor = -1

    def keep_listing(self, folder: Folder, listed: list[Listed]) -> None:
        """For the next one who asks; of a few folders."""
        folder.listed = listed
        self._listed.append(folder)
        if len(self._listed) > _LISTINGS:
            self._listed.popleft().listed = None

    def orphan(self, inode: Inode) -> None:
        """Its last name is gone: only who has it open can still reach it."""
        self.resting.drop(inode.key)
        self.inodes.orphan(inode)

    def discard(self, inode: Inode) -> None:
        """A directory inode that nobody needs any more."""
        self.changed_in.pop(inode, None)
        if inode in self._recent:
            del self._recent[inode]
        self._shut(inode)
        inode.folder = None

    def close(self) -> None:
        """Give every descriptor back."""
        self.resting.drop_all()
        for inode in self.inodes.all():
            self._shut(inode)
            if inode.open is not None:
                inode.open.forget()
                self.backing.close(inode.open.file.descriptor)
                inode.open = None

    # Places

    def place(self, inode: Inode) -> Place:
        """One place of an inode; raises ESTALE when every name of it is gone."""
        parent = inode.parent
        if parent is None:
            raise refuse(errno.ESTALE)
        folder = self.folder(parent)
        if inode.foreign:
            return Place(folder, _FOREIGN._replace(text=inode.foreign))
        return Place(folder, folder.backing_name(inode.name))

    def target(self, place: Place) -> tuple[bytes, tuple[bytes, ...]]:
        """A symlink's target and bindings; raises NameBindingMismatch or NameInvalid."""
        text = self.backing.read_symlink(place.folder.descriptor, place.name.text)
        target, bindings = place.folder.site.names.decrypt_target(text)
        if bindings and place.name.binding not in bindings:
            raise NameBindingMismatch(
                "the symlink was written under another name: it was moved or swapped in the store"
            )
        self.expectations.meet(place.folder, place.name.text, target_id(text))
        return target, bindings

    def path_in_store(self, inode: Inode) -> str:
        """Where an inode lies, relative to the store."""
        parts: list[str] = []
        at: Inode | None = inode
        while at is not None and at.number != ROOT:
            parts.append(self.place(at).name.text)
            at = at.parent
        return "/".join(reversed(parts))

    def site_of(self, inode: Inode) -> bytes:
        """The id of the site that an inode belongs to."""
        if inode.open is not None:
            return inode.open.file.lease.site_id
        folder = inode if inode.kind == stat.S_IFDIR else inode.parent
        return self.folder(folder or self.inodes.root).site.lease.site_id

    # Changes, for those that make them

    def made(self, parent: Inode, text: str, object_id: bytes) -> None:
        """An entry of a folder is another one now."""
        self.expectations.made(parent.folder or self.folder(parent), text, object_id)
        self.changed_in[parent] = self.session.checkpoints_begun

    def removed(self, parent: Inode, text: str) -> None:
        """An entry of a folder is no more."""
        self.expectations.removed(parent.folder or self.folder(parent), text)
        self.changed_in[parent] = self.session.checkpoints_begun

    def unsynced_folders(self, inode: Inode) -> list[Inode]:
        """Folders on the way to an inode whose names no sync has covered yet."""
        ended = self.session.checkpoints_ended
        found = []
        for parent, _name in inode.names():
            at: Inode | None = parent
            while at is not None:
                if self.changed_in.get(at, -1) >= ended and at not in found:
                    found.append(at)
                at = at.parent
        return found

    # Status

    def status(self, inode: Inode) -> os.stat_result:
        """Of the backing inode."""
        if inode.open is not None:
            inode.open.file.lease.require_valid()
            return self.backing.stat_open(inode.open.file.descriptor)
        folder = inode.folder
        if folder is not None and folder.descriptor >= 0:
            if inode.number != ROOT:
                # The root answers, so that the mount's own status can be asked for.
                folder.site.require()
            return self.backing.stat_open(folder.descriptor)
        place = self.place(inode)
        if inode.refusal is not None:
            return self.status(self.inodes.root)
        status = self.backing.stat(place.folder.descriptor, place.name.text)
        if self.inodes.key_of(status) != inode.key:
            if kind_of(status) != inode.kind:
                raise refuse(errno.ESTALE)
            # Replaced in the store by a file of the same name: a sync client works so.
            self.inodes.replace_key(inode, status)
        return status

    # Files

    def open_content(self, inode: Inode, *, writable: bool) -> AllocatedFile:
        """The content of a file, shared with everybody who has it open already."""
        content = inode.open or self._take_up(inode)
        if content is None:
            content = AllocatedFile(self._open_sealed(inode, writable=writable), self.buffers)
        elif writable:
            self._make_writable(inode, content.file)
        inode.open = content
        return content

    def _take_up(self, inode: Inode) -> AllocatedFile | None:
        """A file that rests, if it is the one that an open would find; it is the caller's then."""
        if inode.key not in self.resting:
            return None
        folder, name = self.place(inode)
        status = self.backing.stat(folder.descriptor, name.text)
        if self.inodes.key_of(status) != inode.key:
            self.resting.drop(inode.key)
            return None
        content = self.resting.take(inode.key, status.st_size)
        if content is not None:
            try:
                content.file.check_binding(name.binding)
                file_id, linked = content.file.file_id, status.st_nlink > 1
                taken = self.expectations.meet(folder, name.text, file_id, linked=linked)
                if taken is not None:
                    self.report(inode, taken)
            except BaseException:
                self.resting.put(inode.key, content)
                self.resting.drop(inode.key)
                raise
        return content

    def _make_writable(self, inode: Inode, file: SealedFile) -> None:
        """One header in memory for each file: a reader's is upgraded, not opened twice."""
        if not file.writable:
            place = self.place(inode)
            descriptor = self.backing.open_file(
                place.folder.descriptor, place.name.text, writable=True
            )
            self.backing.close(file.descriptor)
            file.descriptor, file.writable = descriptor, True

    def shut_if_unused(self, inode: Inode) -> None:
        """Seal and close a file without handles."""
        content = inode.open
        if content is None or content.handles:
            return
        try:
            content.close()
        except BaseException:
            self.session.unsealed.add(content.file.file_id)
            raise
        finally:
            inode.vetted |= content.vetted
            inode.open = None
            self.resting.put(inode.key, content)
            if inode.parent is None:
                self.resting.drop(inode.key)  # it has no name left
            self.inodes.drop_if_unused(inode)

    @contextmanager
    def sealed(self, inode: Inode, *, writable: bool) -> Iterator[SealedFile]:
        """A file's header, for a while."""
        if inode.open is not None:
            if writable:
                self._make_writable(inode, inode.open.file)
            inode.open.file.unlock()
            yield inode.open.file
            return
        content = self._take_up(inode)
        if content is not None:
            try:
                if writable:
                    self._make_writable(inode, content.file)
                yield content.file
            finally:
                self.resting.put(inode.key, content)
            return
        file = self._open_sealed(inode, writable=writable)
        try:
            yield file
        finally:
            self.backing.close(file.descriptor)

    def _open_sealed(self, inode: Inode, *, writable: bool) -> SealedFile:
        place = self.place(inode)
        if inode.foreign:
            raise HeaderInvalid("this entry was not written by ckfs: it is foreign to the store")
        if inode.refusal is not None:
            raise inode.refusal
        return self.opener.open(inode, place, writable=writable, read_only=self.read_only)
