"""What gives an existing file, symlink or folder another name: rename and link.

Each is sealed to the names it lies under (FORMAT.md 3.3). So a rename makes it valid under
both names first, durably, and then renames in one step; a stop anywhere leaves it readable. What
waits for the disk is given out to be waited for on another thread.
Sites are borders: nothing is renamed or linked across one (EXDEV).
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from fsdriver import lookups
from fsdriver.backing import RENAME_EXCHANGE, RENAME_NOREPLACE
from fsdriver.errors import EntryMissing, refuse
from fsdriver.folder import BackingName, kind_of, temporary_name
from fsdriver.format.names import target_id
from fsdriver.inodes import Inode
from fsdriver.namespace import Namespace
from fsdriver.opener import Place
from fsdriver.rebinding import rebind, rebind_to_none
from fsdriver.syncing import Waiting, begin_folder, begin_header
from fsdriver.tree import Tree


class Move(NamedTuple):
    """A rename that is allowed."""

    source: Place
    moved: Inode
    target: Place
    victim: Inode | None
    replaced: os.stat_result | None
    """Of what lies under the new name already."""


class Renaming:
    """Moves names within one tree."""

    def __init__(self, tree: Tree, namespace: Namespace) -> None:
        self._tree = tree
        self._backing = tree.backing
        self._namespace = namespace
        self._ready: Move | None = None
        """What `begin_rename` looked at last, for a `rename` that follows at once."""

    # Before: valid under both names, and durably so

    def begin_link(self, inode: Inode, parent: Inode, name: bytes) -> Waiting | None:
        """What `link` has to wait for, if anything; on any thread."""
        folder = self._tree.folder(parent)
        known = folder.backing_name(name)
        place = self._tree.place(inode)
        if folder.site.lease.site_id != place.folder.site.lease.site_id:
            raise refuse(errno.EXDEV)
        if inode.kind == stat.S_IFDIR or inode.foreign:
            raise refuse(errno.EPERM)
        with suppress(FileNotFoundError):
            self._backing.stat(folder.descriptor, known.text)
            raise refuse(errno.EEXIST)
        if inode.kind == stat.S_IFREG:
            return self._loosen_file(place, inode, known, all_kept=True, replaces=False)
        return None

    def begin_rename(
        self, parent: Inode, name: bytes, new_parent: Inode, new_name: bytes, flags: int
    ) -> Waiting | None:
        """What `rename` has to wait for, if anything; on any thread."""
        self._ready = None
        with self._looked_at(parent, name, new_parent, new_name, flags) as move:
            waits = self._loosen_both(move, flags) if move is not None else []
        if move is not None and self._are_known(move):
            self._ready = move
        if not waits:
            return None

        def wait() -> None:
            for one in waits:
                one()

        return wait

    def _are_known(self, move: "Move") -> bool:
        """Whether what was looked at is still there for others, and so will be for `rename`."""
        get = self._tree.inodes.get
        return all(one is None or get(one.number) is one for one in (move.moved, move.victim))

    def _loosen_both(self, move: "Move", flags: int) -> list[Waiting]:
        sides = [(move.source, move.moved, move.target.name)]
        if move.victim is not None and (
            flags == RENAME_EXCHANGE or move.victim.kind == stat.S_IFDIR
        ):
            # An empty folder that is replaced changes places before it is taken away.
            sides.append((move.target, move.victim, move.source.name))
        replaces = move.replaced is not None
        waits = [self._loosen(*side, replaces=replaces) for side in sides]
        return [wait for wait in waits if wait is not None]

    def _loosen(
        self, place: Place, inode: Inode, new_name: BackingName, *, replaces: bool
    ) -> Waiting | None:
        """Valid under the old name and under the new one."""
        if inode.kind == stat.S_IFREG:
            return self._loosen_file(place, inode, new_name, all_kept=False, replaces=replaces)
        both = (place.name.binding, new_name.binding)
        if inode.kind == stat.S_IFDIR:
            folder = self._tree.folder(inode)
            if not set(folder.record.bindings) <= set(both) and self._tree.unsynced_folders(inode):
                # The rename of before it has to be on the disk, or it was sealed to neither name.
                begin_folder(self._tree, inode)()
            if inode.prepared != self._mark(new_name, folder.record.generation):
                folder.rebind(self._backing, both)
                self._tree.expectations.meet_record(folder.record)
                inode.prepared = self._mark(new_name, folder.record.generation)
        elif inode.kind == stat.S_IFLNK and self._tree.target(place)[1]:
            self._retarget(inode, place, both)
        return None

    def _mark(self, new_name: BackingName, generation: int) -> tuple[bytes, int, int]:
        return new_name.binding, generation, self._tree.session.checkpoints_begun

    def _loosen_file(
        self,
        place: Place,
        inode: Inode,
        new_name: BackingName,
        *,
        all_kept: bool,
        replaces: bool,
    ) -> Waiting | None:
        """A file that no power cut can take back has to say so on the disk before it has a name.

        One that was made since the last checkpoint may be taken back with its only name, unless
        it is to take the place of another: then the whole of it has to be there first.
        """
        with self._tree.sealed(inode, writable=True) as file:
            state = file.state
            single = self._backing.stat_open(file.descriptor).st_nlink == 1
            if inode.prepared != self._mark(new_name, state.generation) or state.dirty:
                # Written even if it names both already: so that after a stop it is known to have
                # been on its way.
                kept = (place.name.binding,) if single else state.bindings
                if state.unbound:
                    rebind_to_none(file)
                else:
                    rebind(file, (*kept, new_name.binding))
                inode.prepared = self._mark(new_name, file.state.generation)
            fresh = inode.made_in == self._tree.session.checkpoints_begun and not all_kept
            if (fresh and not replaces) or inode.synced >= file.state.generation:
                return None
            # Whichever of its names is on the disk, that header is bound to it, or recovered.
            return begin_header(self._tree, inode, file, data_only=True, named=False)

    # The names themselves

    def link(self, inode: Inode, parent: Inode, name: bytes) -> os.stat_result:
        """One more name for a file or symlink."""
        wait = self.begin_link(inode, parent, name)
        if wait is not None:
            wait()
        inode.prepared = None
        # Its other names outlive a lost header, and would be met with it before the new one is.
        inode.made_in = -1
        folder, backing = self._tree.folder(parent), self._backing
        known = folder.backing_name(name)
        place = self._tree.place(inode)
        if inode.kind == stat.S_IFLNK and self._tree.target(place)[1]:
            # One that lost a link, or whose rename was interrupted, has two bindings still.
            single = backing.stat(place.folder.descriptor, place.name.text).st_nlink == 1
            more = (place.name.binding, known.binding)
            self._retarget(inode, place, more if single else ())
        object_id = self._tree.expectations.object_of(place.folder, place.name.text)
        with folder.announced(backing, known):
            backing.link(place.folder.descriptor, place.name.text, folder.descriptor, known.text)
        self._tree.made(parent, known.text, object_id)
        inode.add_name(parent, name)
        return backing.stat(folder.descriptor, known.text)

    def rename(
        self,
        parent: Inode,
        name: bytes,
        new_parent: Inode,
        new_name: bytes,
        flags: int,
        *,
        at_once: bool = False,
    ) -> None:
        """rename(2) with RENAME_NOREPLACE and RENAME_EXCHANGE.

        `at_once`: it was begun with the same arguments, what that gave was waited for, and nothing
        else was asked since then. So nothing is looked at twice.
        """
        ready, self._ready = self._ready, None
        if at_once and ready is not None:
            self._carry_out(ready, (parent, name), (new_parent, new_name), flags)
            return
        with self._looked_at(parent, name, new_parent, new_name, flags) as move:
            if move is not None:
                for wait in self._loosen_both(move, flags):
                    wait()
                self._carry_out(move, (parent, name), (new_parent, new_name), flags)

    def _carry_out(
        self, move: "Move", before: tuple[Inode, bytes], after: tuple[Inode, bytes], flags: int
    ) -> None:
        """The rename itself, of what is valid under both names."""
        for one in (move.moved, move.victim):
            if one is not None:
                one.prepared = None  # good for this rename only
        expectations = self._tree.expectations
        source, target = move.source, move.target
        moved_id = expectations.object_of(source.folder, source.name.text)
        if flags == RENAME_EXCHANGE and move.victim is not None:
            other_id = expectations.object_of(target.folder, target.name.text)
            self._backing.rename(
                source.folder.descriptor,
                source.name.text,
                target.folder.descriptor,
                target.name.text,
                RENAME_EXCHANGE,
            )
            self._tree.made(after[0], target.name.text, moved_id)
            self._tree.made(before[0], source.name.text, other_id)
            _swap_names(move.moved, before, move.victim, after)
            self._tighten(target, move.moved)
            self._tighten(source, move.victim)
            return
        self._move(source, target, move.replaced)
        self._tree.made(after[0], target.name.text, moved_id)
        if (source.folder, source.name.text) != (target.folder, target.name.text):
            self._tree.removed(before[0], source.name.text)
        move.moved.remove_name(*before)
        move.moved.add_name(*after)
        if move.replaced is not None:
            self._namespace.gone(move.victim, move.replaced, *after)
        self._tighten(target, move.moved)

    @contextmanager
    def _looked_at(
        self, parent: Inode, name: bytes, new_parent: Inode, new_name: bytes, flags: int
    ) -> Iterator["Move | None"]:
        """What is to be moved where, once it is allowed; None if there is nothing to do."""
        if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            raise refuse(errno.EINVAL)
        tree, backing = self._tree, self._backing
        source, status, foreign = lookups.find(tree, parent, name)
        folder = tree.folder(new_parent)
        target = Place(folder, folder.backing_name(new_name))
        if foreign or folder.site.lease.site_id != source.folder.site.lease.site_id:
            raise refuse(errno.EXDEV)
        try:
            replaced = backing.stat(folder.descriptor, target.name.text)
        except FileNotFoundError:
            replaced = None
            self._note_loss(target, new_parent, new_name)
        moved = lookups.enter(tree, parent, name, source, status, foreign=False)
        if moved.refusal is not None:
            raise moved.refusal
        victim = None
        if replaced is not None:
            # Under a link that somebody made in the store it is not this file that goes.
            victim = tree.inodes.find(replaced) or tree.inodes.enter(replaced, new_parent, new_name)
        try:
            if flags == RENAME_EXCHANGE and replaced is None:
                raise refuse(errno.ENOENT)
            if flags == RENAME_NOREPLACE and replaced is not None:
                raise refuse(errno.EEXIST)
            if moved is victim and not flags:
                yield None
                return
            if replaced is not None and not flags:
                self._check_replace(status, replaced, target)
            yield Move(source, moved, target, victim, replaced)
        finally:
            for inode in (moved, victim):
                if inode is not None and tree.inodes.drop_if_unused(inode) is not None:
                    tree.discard(inode)

    def _note_loss(self, target: Place, new_parent: Inode, new_name: bytes) -> None:
        """What was deleted in the store loses its name for good, which nobody is refused for."""
        tree = self._tree
        if tree.expectations.misses(target.folder, target.name.text):
            lost = EntryMissing("it was deleted in the store, and another takes its name")
            inode = tree.inodes.enter_refused(new_parent, new_name, lost)
            tree.report(inode, lost)
            tree.inodes.drop_if_unused(inode)

    def _check_replace(
        self, status: os.stat_result, replaced: os.stat_result, target: Place
    ) -> None:
        if kind_of(replaced) == stat.S_IFDIR:
            if kind_of(status) != stat.S_IFDIR:
                raise refuse(errno.EISDIR)
            self._namespace.require_empty(target)
        elif kind_of(status) == stat.S_IFDIR:
            raise refuse(errno.ENOTDIR)

    def _move(self, source: Place, target: Place, replaced: os.stat_result | None) -> None:
        backing = self._backing
        names = (source.folder.descriptor, source.name.text)
        new_names = (target.folder.descriptor, target.name.text)
        if replaced is not None and kind_of(replaced) == stat.S_IFDIR:
            # An empty folder of ours still has its record, which rename(2) takes for content.
            backing.rename(*names, *new_names, RENAME_EXCHANGE)
            self._namespace.take_away(source)
        else:
            with target.folder.announced(backing, target.name):
                backing.rename(*names, *new_names)
            if target.name.text != source.name.text or source.folder is not target.folder:
                source.folder.remove_sidecar(backing, source.name)

    def _tighten(self, place: Place, inode: Inode) -> None:
        """After a rename: a symlink is valid under the new name only.

        A file or a folder stays valid under the old one until its next rename. Its header would
        have to be written once more, and after a power cut that may be in the store while the
        rename is not; a symlink's text and its name are ordered by the same journal.
        """
        if inode.kind == stat.S_IFLNK:
            with suppress(OSError):  # the rename is done, and both names will do
                if self._tree.target(place)[1]:
                    self._retarget(inode, place, (place.name.binding,))

    def _retarget(self, inode: Inode, place: Place, bindings: tuple[bytes, ...]) -> None:
        """Write a symlink anew, in one step; of several links this one becomes its own."""
        backing, folder = self._backing, place.folder
        target, bound = self._tree.target(place)
        if bound == bindings:
            return
        status = backing.stat(folder.descriptor, place.name.text)
        temporary = temporary_name()
        text = folder.site.names.encrypt_target(target, bindings)
        backing.make_symlink(folder.descriptor, temporary, text)
        try:
            if os.geteuid() == 0:
                backing.change_owner(folder.descriptor, temporary, status.st_uid, status.st_gid)
            backing.change_times(
                folder.descriptor, temporary, status.st_atime_ns, status.st_mtime_ns
            )
            new_status = backing.stat(folder.descriptor, temporary)
            backing.rename(folder.descriptor, temporary, folder.descriptor, place.name.text)
        except BaseException:
            backing.unlink(folder.descriptor, temporary)
            raise
        self._tree.expectations.made(folder, place.name.text, target_id(text))
        if status.st_nlink == 1:
            self._tree.inodes.replace_key(inode, new_status)
        else:
            self._tree.orphan(inode)


def _swap_names(
    first: Inode, first_at: tuple[Inode, bytes], second: Inode, second_at: tuple[Inode, bytes]
) -> None:
    first.remove_name(*first_at)
    second.remove_name(*second_at)
    first.add_name(*second_at)
    second.add_name(*first_at)
