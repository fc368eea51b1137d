"""Both halves of the matrix against ckfs, on a disk of bounded size, and nothing left behind."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.attacks.ours import Rooms
from tests.attacks.report import Row, of_room, of_whole
from tests.attacks.storetable import STORE_ATTACKS
from tests.attacks.table import ATTACKS, LIVE
from tests.attacks.wholerun import Wholes
from tests.crash.power.disk import Disk
from tests.mounted.driving import Driven, detach, mountpoints_below

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIB = 512


@contextmanager
def bounded() -> Iterator[tuple[Path, Path]]:
    """(for mount points and hosts, for stores); whatever happens nothing stays mounted there."""
    folder = Path(tempfile.mkdtemp(prefix="ckfs-attacks-"))
    disk = Disk(folder, "disk", "ext4", mib=_MIB).make()
    try:
        yield folder, disk.place
    finally:
        for place in mountpoints_below(folder):
            if place != str(disk.place):
                detach(place)
        disk.destroy()
        shutil.rmtree(folder)


def ours() -> list[Row]:
    """Every attack on ckfs."""
    with bounded() as (folder, backing):
        left: list[str] = []
        (backing / "rooms").mkdir()
        driven = Driven(folder / "rooms", backing / "rooms").init("--chunk-size", "4096")
        try:
            rooms = Rooms(driven, [*ATTACKS, *LIVE])
            rows = [of_room(one) for one in rooms.run()]
        finally:
            left += driven.end_mount()
        left += [f"{one} was read or written" for one in rooms.touched]
        (folder / "wholes").mkdir()
        (backing / "wholes").mkdir()
        wholes = Wholes(folder / "wholes", backing / "wholes")
        try:
            rows += [of_whole(one) for one in wholes.run(STORE_ATTACKS)]
        finally:
            for one in wholes.driven:
                left += one.end_mount()
        assert not left, left
        return rows
