"""The store fails at any call: the right program is told, old content stays, the mount lives.

`make crash-power` takes every fault twice, with a driver that goes on and with one that is killed.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.power.disk import Disk
from tests.crash.power.faultloop import FaultLoop, in_memory
from tests.crash.power.traced import Traced, TracedFault, faults_of
from tests.mounted.driving import Driven

pytestmark = pytest.mark.crash

# Found here and not mended yet; whoever mends one takes it out, and the test asks for that.
KNOWN: set[str] = set()

SAMPLE = 16
KILLS = (("pwritev2", 12), ("renameat", 2), ("fdatasync", 2))


@pytest.fixture
def loop():
    with tempfile.TemporaryDirectory(prefix="ckfs-faults-", dir=in_memory()) as folder:
        yield FaultLoop(Path(folder))


def test_a_fault_at_every_call(loop, capsys):
    """Every call of the store fails with every error it can have; every fourth ends in a kill."""
    faults = list(loop.every())
    for number, fault in enumerate(faults):
        loop.run(replace(fault, killed=number % 4 == 3))
    capsys.readouterr()  # what the driver says of each of these is its own business
    assert loop.runs > 300
    kinds = Counter(fault.call for fault in faults)
    for call in ("write", "rename", "unlink", "create_file", "open_file", "read_into"):
        assert kinds[call], f"the script makes no {call}"
    assert kinds["sync"] + kinds["sync_data"] + kinds["sync_filesystem"] > 10
    told = [f"{fault}: {what}" for fault, what in loop.wrong if fault.place not in KNOWN]
    assert not told, f"{len(told)} of {loop.runs}:\n" + "\n".join(told)
    mended = KNOWN - {fault.place for fault, _what in loop.wrong}
    assert not mended, f"take these out of KNOWN: {sorted(mended)}"


@pytest.mark.mounted
def test_a_real_driver_under_strace(crash_base):
    """A sample of the same through the kernel; `make crash-power` takes all of them."""
    place = crash_base / "traced"
    place.mkdir()
    disk = Disk(place, "disk", "ext4").make()
    traced = Traced(Driven(place, disk.place))
    try:
        traced.make(1 + SAMPLE + len(KILLS))
        calls = traced.calls()
        faults = faults_of(calls, every_error=False)
        chosen = faults[:: -(-len(faults) // SAMPLE)]
        chosen += [TracedFault(call, number, 0) for call, number in KILLS]
        for folder, fault in enumerate(chosen, 1):
            traced.run(folder, fault)
        traced.look()
    finally:
        traced.wrong += traced.driven.end_mount()
        disk.destroy()
    assert not traced.wrong, "\n".join(traced.wrong)
    assert calls["pwritev2"] > 10 and calls["renameat"] > 5
    assert traced.counts["errors told"] > SAMPLE / 2
    assert traced.counts["kills"] == len(KILLS)
