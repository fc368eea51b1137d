"""How far work on a whole store is: rate and time left on a terminal, and a limit to the rate."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from fsdriver.folder import CONTROL_FOLDER
from fsdriver.offline import OfflineStore

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_MIB: Final = 1 << 20
_LONGEST_WAIT: Final = 1.0


class Throttle:
    """Waits when bytes come faster than `rate`, in MiB a second; 0 never waits."""

    def __init__(self, rate: float) -> None:
        self._rate = rate * _MIB
        self._free_at = time.monotonic()

    def take(self, count: int) -> None:
        """Called after `count` bytes were read."""
        if not self._rate:
            return
        now = time.monotonic()
        # What was not used is lost: a pause is not made up for by a burst.
        self._free_at = max(self._free_at, now) + count / self._rate
        while (wait := self._free_at - time.monotonic()) > 0:
            time.sleep(min(wait, _LONGEST_WAIT))


class Meter:
    """Counts files and bytes of one run."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self.files = 0

    def bytes_read(self, count: int) -> None:
        """Of ciphertext, as they are read."""
        self._throttle.take(count)
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, count)

    def file_done(self) -> None:
        """One more entry that is no folder."""
        self.files += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, files=self.files)

    @contextmanager
    def shown(self, store: OfflineStore, what: str) -> Iterator[None]:
        """With a bar on standard error, where that is a terminal."""
        if not os.isatty(2):
            yield
            return
        from rich import progress  # noqa: PLC0415 takes long to load
        from rich.console import Console  # noqa: PLC0415

        files, total = measure(store)
        columns: list[Any] = [
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TextColumn(f"{{task.fields[files]}} of {files} files"),
            progress.TimeRemainingColumn(),
        ]
        with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            self._bar, self._task = bar, bar.add_task(what, total=total, files=0)
            yield


def measure(store: OfflineStore) -> tuple[int, int]:
    """Entries that are no folders, and bytes of backing files; without keys, as far as readable."""
    files = total = 0
    waiting = [store.path]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                for entry in listing:
                    if entry.is_dir(follow_symlinks=False):
                        if folder != store.path or entry.name != CONTROL_FOLDER:
                            waiting.append(entry.path)
                    elif not entry.name.startswith(".ckfs-dir"):
                        files += 1
                        if entry.is_file(follow_symlinks=False):
                            total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return files, total
