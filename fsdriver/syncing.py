"""fsync: what has to reach the disk for one inode, and in which order.

Each function begins on the main thread and returns what waits for the disk, for any thread.
"""

import errno
from collections.abc import Callable
from contextlib import ExitStack

from fsdriver.inodes import Inode
from fsdriver.openfile import OpenFile
from fsdriver.sealedfile import SealedFile
from fsdriver.tree import Tree

Waiting = Callable[[], None]


def begin_file(tree: Tree, inode: Inode, content: OpenFile, *, data_only: bool) -> Waiting:
    """Content, size, and the names that lead to it. The result raises OSError, once for all."""
    content.seal()
    return begin_header(tree, inode, content.file, data_only=data_only)


def begin_header(tree: Tree, inode: Inode, file: SealedFile, *, data_only: bool) -> Waiting:
    """As the file is sealed now."""
    if inode.sync_failed is not None:
        raise OSError(
            inode.sync_failed.errno or errno.EIO, "a sync of this file failed before: copy it"
        )
    backing = tree.backing
    steps = ExitStack()
    journaled = file.journaled
    generation = file.state.generation
    data = backing.duplicate(file.descriptor)
    steps.callback(backing.close, data)
    folders = []
    for folder in tree.unsynced_folders(inode):
        changed = tree.changed_in[folder]
        descriptor = backing.duplicate(tree.folder(folder).descriptor)
        steps.callback(backing.close, descriptor)
        folders.append((folder, changed, descriptor))

    def wait() -> None:
        with steps:
            try:
                # Records in place before the journal, whose headers name them.
                if data_only:
                    backing.sync_data(data)
                else:
                    backing.sync(data)
                if journaled is not None:
                    for part in list(journaled.parts):
                        file.session.writing_journal.sync(part.epoch)
                for folder, changed, descriptor in folders:
                    backing.sync(descriptor)
                    if tree.changed_in.get(folder) == changed:
                        tree.changed_in.pop(folder, None)
            except OSError as error:
                inode.sync_failed = error
                tree.session.broken = True
                raise
            inode.synced = max(inode.synced, generation)

    return wait


def begin_folder(tree: Tree, inode: Inode) -> Waiting:
    """The names in a folder, and the names that lead to it."""
    backing = tree.backing
    wanted = {inode: tree.changed_in.get(inode, -1)}
    wanted.update((one, tree.changed_in[one]) for one in tree.unsynced_folders(inode))
    steps = ExitStack()
    folders = []
    for folder, changed in wanted.items():
        descriptor = backing.duplicate(tree.folder(folder).descriptor)
        steps.callback(backing.close, descriptor)
        folders.append((folder, changed, descriptor))

    def wait() -> None:
        with steps:
            try:
                for folder, changed, descriptor in folders:
                    backing.sync(descriptor)
                    if tree.changed_in.get(folder) == changed:
                        tree.changed_in.pop(folder, None)
            except OSError:
                tree.session.broken = True
                raise

    return wait
