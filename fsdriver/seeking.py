"""Where a file has data and where it has holes: lseek(2), by the chunk."""

import errno
import os

from fsdriver.errors import refuse
from fsdriver.sealedfile import SealedFile


def seek(file: SealedFile, offset: int, whence: int) -> int:
    """The next offset, from `offset` on, with data (SEEK_DATA) or in a hole (SEEK_HOLE).

    The end of a file is a hole. ENXIO behind the end, and where no data follows.
    """
    if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
        raise refuse(errno.EINVAL)
    size = file.state.size
    if not 0 <= offset < size:
        raise refuse(errno.ENXIO)
    wants_data = whence == os.SEEK_DATA
    if file.extents is None:
        return offset if wants_data else size
    chunk_size = file.geometry.chunk_size
    chunks = file.geometry.chunk_count(size)
    for first, _end, present in file.extents.segments(offset // chunk_size, chunks):
        if present == wants_data:
            return max(offset, first * chunk_size)
    if wants_data:
        raise refuse(errno.ENXIO)
    return size
