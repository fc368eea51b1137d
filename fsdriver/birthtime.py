"""When something was made: the birth time of its backing entry, as statx(2) has it."""

from fsdriver.inodes import Inode
from fsdriver.tree import Tree


def birth_time_ns(tree: Tree, inode: Inode) -> int | None:
    """None where the store's filesystem keeps none, or there is no entry."""
    tree.status(inode)  # refuses what is not to be looked at
    if inode.refusal is not None:
        return None
    if inode.open is not None:
        return tree.backing.birth_time_ns(inode.open.file.descriptor, "")
    if inode.folder is not None and inode.folder.descriptor >= 0:
        return tree.backing.birth_time_ns(inode.folder.descriptor, "")
    place = tree.place(inode)
    return tree.backing.birth_time_ns(place.folder.descriptor, place.name.text)
