"""Files that nobody has open any more, kept open for who comes next: keys and header stay known.

Most of an open is to derive keys and to verify a header. A file that rests is taken up again only
if what its name leads to is still the same backing file, as long as before, with the very header
that was written or verified last: then a fresh open would come to the same end. Everything else is
opened anew, and judged there. Plaintext does not rest.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from fsdriver.allocation import AllocatedFile
from fsdriver.backing import Backing
from fsdriver.format.geometry import HEADER_SIZE
from fsdriver.sealedfile import SealedFile

FILES: Final = 2048
"""At most; each holds a descriptor, and 5 KiB of memory."""


class RestingFiles:
    """Of one mount, by the key of the backing file (`InodeTable.key_of`)."""

    def __init__(self, backing: Backing, limit: int = FILES) -> None:
        self._backing = backing
        self._limit = limit
        self._files: OrderedDict[int, AllocatedFile] = OrderedDict()

    def __len__(self) -> int:
        return len(self._files)

    def put(self, key: int, content: AllocatedFile) -> None:
        """A sealed file whose last handle was closed; from here on it is closed here."""
        content.forget()
        self.drop(key)
        file = content.file
        unfinished = file.locked or file.state.dirty or file.overlay is not None
        if not self._limit or unfinished or file.state.unbound:
            # The next open of an unbound file looks whether it can be bound again.
            self._close(content)
            return
        self._files[key] = content
        if len(self._files) > self._limit:
            _key, oldest = self._files.popitem(last=False)
            self._close(oldest)

    def __contains__(self, key: int) -> bool:
        return key in self._files

    def take(self, key: int, length: int) -> AllocatedFile | None:
        """The file that rests under this key, if its header and its length are still the same.

        `length`: of what the name leads to, which is the same backing file. Raises nothing: who
        opens it anew does.
        """
        content = self._files.pop(key, None)
        if content is None:
            return None  # it was given back meanwhile
        try:
            if self._is_unchanged(content.file, length):
                return content
        except OSError:
            pass  # the open that follows says why
        self._close(content)
        return None

    def _is_unchanged(self, file: SealedFile, length: int) -> bool:
        if not file.lease.valid:
            return False
        journaled = file.journaled
        if journaled is not None:
            # The store may still have an older one; the journal's is the newest.
            return journaled.header == file.header
        return (
            length == file.geometry.ciphertext_size(file.state.size)
            and self._backing.read(file.descriptor, HEADER_SIZE, 0) == file.header
        )

    def drop(self, key: int) -> None:
        """The file is removed, or is no longer what it was."""
        content = self._files.pop(key, None)
        if content is not None:
            self._close(content)

    def drop_all(self, which: Callable[[AllocatedFile], bool] = lambda _content: True) -> None:
        """Give descriptors and keys back."""
        for key in [key for key, content in self._files.items() if which(content)]:
            self.drop(key)

    def spare(self) -> bool:
        """All of them, when descriptors run out; False if none rests."""
        if not self._files:
            return False
        self.drop_all()
        return True

    def _close(self, content: AllocatedFile) -> None:
        content.forget()
        self._backing.close(content.file.descriptor)
