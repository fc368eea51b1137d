"""What becomes of a site when its lease ends: keys, plaintext and decrypted names go."""

from fsdriver.inodes import Inode
from fsdriver.tree import Tree


def lock_site(tree: Tree, site_id: bytes) -> list[Inode]:
    """Drop every key and decrypted name of a site whose lease ended; returns its inodes.

    What the kernel has cached of them is the transport's to drop.
    """
    tree.session.fresh_keys.drop(site_id)
    tree.resting.drop_all(lambda content: content.file.lease.site_id == site_id)
    locked = []
    for inode in tree.inodes.all():
        folder = inode.folder or (inode.parent.folder if inode.parent else None)
        content = inode.open
        lease = content.file.lease if content else folder.site.lease if folder else None
        if lease is None or lease.site_id != site_id:
            continue
        locked.append(inode)
        if inode.folder is not None:
            inode.folder.lock()
        if content is not None:
            try:
                content.lock()
            except OSError as error:
                tree.report(inode, error)
    return locked
