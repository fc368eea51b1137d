"""copy_file_range(2): from one open file to another, without the way through the program.

Each file has keys of its own, so everything is decrypted and encrypted again. One call copies a
few MiB at most, so that others are served in between; programs go on where it stopped.
"""

import errno
from typing import Final

from fsdriver.errors import CkfsError, refuse
from fsdriver.openfile import OpenFile

AT_MOST: Final = 4 << 20
_PIECE: Final = 1 << 20


def copy(source: OpenFile, offset_in: int, target: OpenFile, offset_out: int, length: int) -> int:
    """How many bytes were copied: fewer than `length` at the end of the source, or of patience.

    EINVAL for ranges of one file that overlap. An error behind bytes that were copied is left
    to the next call.
    """
    length = min(length, source.size - offset_in)
    if source is target and offset_in < offset_out + length and offset_out < offset_in + length:
        raise refuse(errno.EINVAL)
    length = min(length, AT_MOST)
    copied = 0
    while copied < length:
        at = offset_out + copied
        # Up to a border of chunks, so that none is written twice.
        piece = min(_PIECE - at % _PIECE, length - copied)
        try:
            # A copy: what a read gives is good until the next call on any file.
            data = bytes(source.read(offset_in + copied, piece))
            copied += target.write(at, data)
        except (OSError, CkfsError):
            if copied:
                return copied
            raise
    return max(0, copied)
