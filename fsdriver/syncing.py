"""fsync: what has to reach the disk for one inode, and in which order.

Each function begins on the main thread and returns what waits for the disk, for any thread.
"""

import errno
from collections.abc import Callable

from fsdriver.errors import CkfsError
from fsdriver.inodes import Inode
from fsdriver.openfile import OpenFile
from fsdriver.sealedfile import SealedFile
from fsdriver.tree import Tree

Waiting = Callable[[], None]


def begin_file(tree: Tree, inode: Inode, content: OpenFile, *, data_only: bool) -> Waiting:
    """Content, size, and the names that lead to it. The result raises OSError, once for all."""
    content.seal()
    return begin_header(tree, inode, content.file, data_only=data_only)


def begin_header(
    tree: Tree, inode: Inode, file: SealedFile, *, data_only: bool, named: bool = True
) -> Waiting:
    """As the file is sealed now; `named`: with the names that lead to it."""
    if inode.sync_failed is not None:
        raise OSError(
            inode.sync_failed.errno or errno.EIO, "a sync of this file failed before: copy it"
        )
    backing = tree.backing
    journaled = file.journaled
    generation = file.state.generation
    folders = _Folders(tree, tree.unsynced_folders(inode) if named else [])
    try:
        data = backing.duplicate(file.descriptor)
    except BaseException:
        folders.give_back()
        raise

    def wait() -> None:
        try:
            # Records in place before the journal, whose headers name them.
            if data_only:
                backing.sync_data(data)
            else:
                backing.sync(data)
            if journaled is not None:
                for epoch in journaled.epochs:
                    file.session.writing_journal.sync(epoch)
            folders.sync()
        except OSError as error:
            inode.sync_failed = error
            tree.session.broken = True
            raise
        finally:
            backing.close(data)
            folders.give_back()
        inode.synced = max(inode.synced, generation)

    return wait


def begin_all(tree: Tree) -> Waiting:
    """Everything that was done so far. Raises what sealing a file raises; the others are sealed."""
    troubles: list[Exception] = []
    for inode in tree.inodes.all():
        if inode.open is not None:
            try:
                inode.open.seal()
            except (OSError, CkfsError) as error:
                troubles.append(error)
    if troubles:
        raise troubles[0]
    if tree.read_only:
        return _nothing
    backing, session = tree.backing, tree.session
    journal = session.writing_journal
    changed = dict(tree.changed_in)
    root = backing.duplicate(tree.folder(tree.inodes.root).descriptor)

    def wait() -> None:
        try:
            backing.sync_filesystem(root)  # the journal lies there, too
        except OSError as error:
            journal.failed = error
            session.broken = True
            raise
        finally:
            backing.close(root)
        for folder, number in changed.items():
            if tree.changed_in.get(folder) == number:
                tree.changed_in.pop(folder, None)

    return wait


def _nothing() -> None:
    """There is nothing to wait for."""


def begin_folder(tree: Tree, inode: Inode) -> Waiting:
    """The names in a folder, and the names that lead to it."""
    above = [one for one in tree.unsynced_folders(inode) if one is not inode]
    folders = _Folders(tree, [inode, *above])

    def wait() -> None:
        try:
            folders.sync()
        except OSError:
            tree.session.broken = True
            raise
        finally:
            folders.give_back()

    return wait


class _Folders:
    """Folders to be synced: descriptors that nobody closes meanwhile, until they are given back."""

    __slots__ = ("_taken", "_tree")

    def __init__(self, tree: Tree, folders: list[Inode]) -> None:
        self._tree = tree
        self._taken: list[tuple[Inode, int | None, int]] = []
        duplicate = tree.backing.duplicate
        try:
            for folder in folders:
                descriptor = duplicate(tree.folder(folder).descriptor)
                self._taken.append((folder, tree.changed_in.get(folder), descriptor))
        except BaseException:
            self.give_back()
            raise

    def sync(self) -> None:
        """On any thread. A name that was changed since then is still to be synced."""
        for folder, changed, descriptor in self._taken:
            self._tree.backing.sync(descriptor)
            if self._tree.changed_in.get(folder) == changed:
                self._tree.changed_in.pop(folder, None)

    def give_back(self) -> None:
        """On any thread, once."""
        for _folder, _changed, descriptor in self._taken:
            self._tree.backing.close(descriptor)
