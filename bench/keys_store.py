"""Stores of many small files, made in process, since through a mount it would take minutes."""

import time
from pathlib import Path

from rich.console import Console
from rich.progress import track

from bench.unmounted import Unmounted, new_store
from fsdriver.inodes import ROOT

FILES_PER_FOLDER = 1000
BYTES_PER_FILE = 100
BACKING_BYTES = 8192
"""At most, of one file in a tmpfs: a page of the file, its inode, its part of the database."""
SAMPLE = Path("folder 0") / "file 0"
_CHECKPOINT_EVERY = 5000


def make(place: Path, state_dir: Path, count: int) -> float:
    """`count` files of 100 bytes in `place`/store; returns the seconds that it took.

    Made durable every few thousand files, as a mount does it every few seconds.
    """
    start = time.perf_counter()
    with new_store(str(place), state_dir=str(state_dir)) as unmounted:
        steps = range(0, count, FILES_PER_FOLDER)
        console = Console(stderr=True)
        for first in track(steps, f"making {count:,} files", console=console, transient=True):
            _fill_folder(unmounted, first, min(first + FILES_PER_FOLDER, count))
            if first % _CHECKPOINT_EVERY == 0:
                unmounted.checkpoint()
    return time.perf_counter() - start


def _fill_folder(unmounted: Unmounted, first: int, end: int) -> None:
    filesystem, caller = unmounted.filesystem, unmounted.caller
    name = f"folder {first // FILES_PER_FOLDER}".encode()
    folder = filesystem.mkdir(ROOT, name, 0o755, caller).number
    content = b"x" * BYTES_PER_FILE
    for number in range(first, end):
        file = unmounted.create(folder, f"file {number}".encode(), content)
        filesystem.forget(file, 1)
    filesystem.forget(folder, 1)
