"""How the reader waits, and what it learns from what came of that, by a clock of the test's."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from fsdriver.transport import reader as module
from fsdriver.transport.reader import Reader
from fsdriver.transport.wakefulness import Wakefulness

SPIN, CLOSE, TRUST = module._SPIN_NS, module._CLOSE_NS, module._TRUST
NEAR, ENOUGH, QUIET = module._NEAR_NS, module._NEAR_ENOUGH, module._QUIET_MS * 1_000_000


class World:
    """A descriptor whose requests come at set times; each look at the clock takes a microsecond."""

    def __init__(self, monkeypatch, arrivals=()):
        self.now = 0
        self.slept = 0
        self.arrivals = list(arrivals)
        self.idle_steps = 0
        monkeypatch.setattr(module.time, "monotonic_ns", self.clock)
        monkeypatch.setattr(module.os, "readv", self.readv)
        self.ours, self.theirs = socket.socketpair()
        self.wakefulness = Wakefulness(asked=False)
        monkeypatch.setattr(Wakefulness, "_ask", self.ask)
        self.asked = []
        self.reader = Reader(self.theirs.fileno(), 100, self.idle, self.wakefulness)
        self.reader._poll = self.poll

    def ask(self, latency):
        self.asked.append(int.from_bytes(latency, "little", signed=True))
        return True

    def clock(self):
        self.now += 1000
        return self.now

    def poll(self, timeout):
        if timeout:
            self.now = min(self.now + timeout * 1_000_000, self.arrivals[0])
        return bool(self.arrivals) and self.arrivals[0] <= self.now

    def idle(self):
        self.idle_steps -= 1
        return self.idle_steps >= 0

    def readv(self, _descriptor, _vector):
        at = self.arrivals.pop(0)
        if isinstance(at, OSError):
            raise at
        if at > self.now:
            self.slept += 1
            self.now = at
        return 40

    def follow(self, pause, times):
        """Requests that come `pause` ns after the last one was read."""
        for _time in range(times):
            self.arrivals = [self.now + pause]
            assert self.reader.next() == 40


@pytest.fixture
def world(monkeypatch):
    made = World(monkeypatch)
    yield made
    made.ours.close()
    made.theirs.close()


def test_it_spins_where_requests_follow_each_other(world):
    world.follow(SPIN // 2, 3)
    slept = world.slept
    assert slept
    world.follow(SPIN // 2, 50)
    assert world.slept <= slept + 1


def test_it_stops_spinning_where_that_was_in_vain(world):
    world.follow(SPIN // 2, 20)
    assert world.reader._credit == TRUST
    world.follow(CLOSE * 2, TRUST)
    assert world.reader._credit <= 0
    before = world.now
    world.follow(CLOSE * 10, 1)
    # At most a look or two at the clock, and then to sleep.
    assert world.slept
    assert world.now - before <= CLOSE * 10 + 5000


def test_it_learns_anew_after_a_pause(world):
    world.follow(CLOSE * 3, 30)
    world.follow(SPIN // 2, 10)
    slept = world.slept
    world.follow(SPIN // 2, 10)
    assert world.slept == slept


def test_credit_stays_within_bounds(world):
    world.follow(1000, 1000)
    assert world.reader._credit <= TRUST
    world.follow(CLOSE * 2, 1000)
    assert world.reader._credit >= -2


@pytest.mark.parametrize("pause", [1000, SPIN // 2, CLOSE * 2, NEAR // 2])
def test_processors_are_kept_awake_while_requests_follow_each_other(world, pause):
    world.follow(pause, ENOUGH - 1)
    assert world.asked == []
    world.follow(pause, 50)
    assert world.asked == [0]
    world.follow(QUIET * 2, 1)
    assert world.asked == [0, -1]
    world.follow(pause, ENOUGH + 3)
    assert world.asked == [0, -1, 0]


def test_a_short_pause_keeps_them_awake(world):
    world.follow(1000, 50)
    world.follow(QUIET // 2, 1)
    assert world.asked == [0]


@pytest.mark.parametrize("pause", [NEAR * 2, QUIET * 10])
def test_processors_sleep_where_requests_are_far_between(world, pause):
    for _time in range(20):
        world.follow(1000, ENOUGH - 1)
        world.follow(pause, 1)
    assert world.asked == []


def test_what_was_put_off_is_done_while_nobody_asks(world):
    world.idle_steps = 5
    world.follow(CLOSE, 1)
    assert world.idle_steps == -1
    world.idle_steps = 5
    world.arrivals = [0]
    assert world.reader.next() == 40
    assert world.idle_steps == 5, "a request that is there goes first"


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EINTR, errno.EAGAIN, errno.ENOMEM])
def test_a_request_that_was_taken_back_is_nothing(world, code):
    world.arrivals = [OSError(code, ""), 0]
    world.poll = world.reader._poll = lambda _timeout: True
    assert world.reader.next() == 40


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ECONNABORTED, errno.EINVAL, errno.EPERM])
def test_what_stays_so_ends_it(world, code):
    world.arrivals = [OSError(code, "")]
    world.poll = world.reader._poll = lambda _timeout: True
    assert world.reader.next() == 0


def test_over_a_real_descriptor():
    reading, writing = os.pipe()
    reader = Reader(reading, 4096, lambda: False, Wakefulness(asked=False))
    for size in (40, 4096, 1):
        os.write(writing, bytes([size % 251]) * size)
        assert reader.next() == size
        assert reader.buffer[:size] == bytes([size % 251]) * size
    os.close(writing)
    assert reader.next() == 0
    os.close(reading)
    assert reader.next() == 0
