"""Before a checkpoint every file's deltas become a transaction, which needs the file's key.

Most are of files that are open. Of others, what a stopped driver left, or what could not be folded
at the last close, the key is asked for; as long as it cannot be had, the deltas go on from one
journal file to the next.
"""

from collections.abc import Callable, Iterator
from typing import Final

from fsdriver.backing import Backing
from fsdriver.errors import Damaged, FormatUnsupported, KeyRejected, KeyUnavailable
from fsdriver.format.geometry import HEADER_SIZE
from fsdriver.format.header import ClearHeader
from fsdriver.journaled import Epoch, JournaledFile
from fsdriver.lease import Lease
from fsdriver.sealedfile import SealedFile
from fsdriver.sessions import Session

_PASSES: Final = 4
"""Then nobody is served in between, lest a busy writer keep the checkpoint from beginning."""


class Folding:
    """Of one mount."""

    def __init__(
        self, backing: Backing, session: Session, lease_of: Callable[[bytes], Lease | None]
    ) -> None:
        """`lease_of` a site id; None while its keys cannot be had."""
        self._backing = backing
        self._session = session
        self._journal = session.writing_journal
        self._lease_of = lease_of

    def fold(self) -> Iterator[None]:
        """All deltas whose keys are at hand, a step at a time. Raises OSError.

        When it ends, what is left are deltas without a key, in this very moment.
        """
        tried: set[bytes] = set()
        for passes in range(2 * _PASSES):
            left = [
                file
                for file in self._journal.files.values()
                if file.deltas and file.file_id not in tried
            ]
            if not left:
                return
            for file in left:
                try:
                    if file.opened is not None:
                        for step in file.opened.fold():
                            if passes < _PASSES:
                                yield step
                    elif file.deltas:
                        self._fold_closed(file)
                except KeyUnavailable:
                    tried.add(file.file_id)

    def carry(self, epoch: Epoch) -> bool:
        """What is left goes on in another epoch; whether there was anything."""
        left = [file for file in self._journal.files.values() if file.deltas]
        for file in left:
            try:
                self._journal.carry(epoch, file, self._journal.frames_of(file))
            except OSError as error:
                # The older journal still has them, and so has whoever replays both.
                self._journal.failed = error
                raise
            if file.opened is not None:
                file.opened.moved(file.deltas)
        self._session.carried = frozenset(file.file_id for file in left)
        return bool(left)

    def _fold_closed(self, file: JournaledFile) -> None:
        backing = self._backing
        if not backing.stat_open(file.descriptor).st_nlink:
            file.deltas.clear()
            return
        raw = file.header or backing.read(file.descriptor, HEADER_SIZE, 0)
        try:
            site_id = ClearHeader.parse(raw).site_id
            lease = self._lease_of(site_id)
            if lease is None:
                raise KeyUnavailable(f"the keys of site {site_id.hex()} cannot be had now")
            sealed = SealedFile.open(backing, file.descriptor, lease, self._session, writable=True)
            sealed.settle()
        except (Damaged, FormatUnsupported, KeyRejected):
            file.deltas.clear()  # nobody can open it: what they stood on is gone
            self._journal.note_length(file)
