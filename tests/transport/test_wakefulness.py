"""What is asked of the kernel's PM QoS."""

from __future__ import annotations

import os
import struct

import pytest
import trio

from fsdriver.transport import wakefulness, wire
from fsdriver.transport.wakefulness import Wakefulness
from fsdriver.transport.wire import WireTransport
from tests.mounted.driving import processes_with


@pytest.fixture
def device(monkeypatch, tmp_path):
    """A file in its place: what was asked is written one behind the other."""
    made = tmp_path / "device"
    made.touch()
    monkeypatch.setattr(wakefulness, "_DEVICE", str(made))
    return made


def test_it_is_asked_for_and_taken_back(device):
    asking = Wakefulness(asked=True)
    assert not asking.held
    assert device.read_bytes() == b"", "nothing before there is a reason"
    asking.hold()
    assert asking.held
    asking.release()
    assert not asking.held
    asking.close()
    asking.release()
    assert struct.unpack("=2i", device.read_bytes()) == (0, -1)


def test_the_kernel_takes_both():
    """What all ask for together is 0 as long as one does; other mounts may do so meanwhile."""
    if not os.access(wakefulness._DEVICE, os.W_OK):
        pytest.skip(f"no {wakefulness._DEVICE} that this user may write to")
    asking = Wakefulness(asked=True)
    looking = os.open(wakefulness._DEVICE, os.O_RDWR)
    asking.hold()
    assert asking.held
    assert struct.unpack("=i", os.pread(looking, 4, 0)) == (0,)
    assert asking._ask(wakefulness._ANY)
    asking.close()
    os.close(looking)


@pytest.mark.parametrize("asked", [True, False])
def test_nothing_happens_where_it_is_not_granted(monkeypatch, tmp_path, asked):
    monkeypatch.setattr(wakefulness, "_DEVICE", str(tmp_path / "missing"))
    asking = Wakefulness(asked=asked)
    asking.hold()
    assert not asking.held
    asking.release()
    asking.close()


def test_a_device_that_takes_nothing_is_not_believed(monkeypatch):
    monkeypatch.setattr(wakefulness, "_DEVICE", "/dev/full")
    asking = Wakefulness(asked=True)
    asking.hold()
    assert not asking.held
    asking.close()


@pytest.mark.trio
async def test_a_request_that_takes_long_itself_keeps_nobody_awake(device, driver, monkeypatch):
    transport = WireTransport(driver.fs, entry_timeout=1, attr_timeout=1)
    monkeypatch.setattr(wire, "_LONG_SECONDS", 0.02)
    monkeypatch.setattr(transport, "_run", lambda: None)
    transport._wakefulness = Wakefulness(asked=True)
    transport._wakefulness.hold()
    released, release = trio.Event(), transport._wakefulness.release
    monkeypatch.setattr(Wakefulness, "release", lambda _self: (release(), released.set()))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.serve)
            await released.wait()
            transport.stop()
    transport._wakefulness.close()
    assert struct.unpack("=2i", device.read_bytes()) == (0, -1)


@pytest.mark.mounted
@pytest.mark.parametrize(("option", "expected"), [("awake", True), ("noawake", False)])
def test_a_mount_asks_unless_it_is_told_not_to(made, option, expected):
    if not os.access(wakefulness._DEVICE, os.W_OK):
        pytest.skip(f"no {wakefulness._DEVICE} that this user may write to")
    mounted = made.mount("-o", option)
    for number in range(100):
        (mounted / "file").write_bytes(bytes(number))
    held = [
        os.readlink(entry.path)
        for pid in processes_with(str(mounted))
        for entry in os.scandir(f"/proc/{pid}/fd")
    ]
    assert (wakefulness._DEVICE in held) == expected
