"""The store fails at any call: the right program is told, old content stays, the mount lives.

`make crash-power` takes every fault twice, with a driver that goes on and with one that is killed.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.power.faultloop import FaultLoop, in_memory

pytestmark = pytest.mark.crash


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
    for call in ("write", "rename", "unlink", "create_file", "open_file", "truncate", "read"):
        assert kinds[call], f"the script makes no {call}"
    assert kinds["sync"] + kinds["sync_data"] + kinds["sync_filesystem"] > 10
    assert not loop.wrong, f"{len(loop.wrong)} of {loop.runs}:\n" + "\n".join(loop.wrong[:40])
