"""A scrub that was stopped goes on; what changed meanwhile is read again."""

import os
import stat

import pytest

from fsdriver.scrubmeter import Throttle, measure
from fsdriver.scrubstate import ScrubState
from tests.fsdriver.scrubbed import FILES, SIZE, Store


class Stopped(Exception):
    pass


class StopsAfter:
    """A meter that ends the run as Ctrl-C would."""

    def __init__(self, files: int) -> None:
        self.left = files
        self.bytes = 0

    def bytes_read(self, count: int) -> None:
        self.bytes += count

    def file_done(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Stopped


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = Store(str(tmp_path_factory.mktemp("store")))
    made.learn()
    return made


def run(store, *, resume, stops_after=-1):
    with store.opened() as opened:
        folder = opened.host_folder
    meter = StopsAfter(stops_after)
    with ScrubState(folder, resume=resume) as state:
        return store.scrub(state=state, meter=meter), meter


def test_what_was_verified_is_not_read_again(store):
    whole, meter = run(store, resume=False)
    assert whole.resumed_files == 1  # the other name of a hard link
    with pytest.raises(Stopped):
        run(store, resume=False, stops_after=8)
    rest, less = run(store, resume=True)
    assert 4 < rest.resumed_files <= 8
    assert less.bytes < meter.bytes
    assert rest.files == whole.files == len(FILES)
    assert rest.findings == [] and whole.findings == []


def test_what_changed_since_is_read_again(store, tmp_path):
    mine = store.copy(str(tmp_path))
    run(mine, resume=False)
    again, _meter = run(mine, resume=True)
    assert again.resumed_files == len(FILES) and again.verified_bytes == 0
    mine.flip("/file", 600)
    after, _meter = run(mine, resume=True)
    assert after.resumed_files == len(FILES) - 1
    assert [(one.kind, one.path) for one in after.findings] == [("chunks", "/file")]
    # What was found is found again: only clean files are passed over.
    once_more, _meter = run(mine, resume=True)
    assert [(one.kind, one.path) for one in once_more.findings] == [("chunks", "/file")]
    assert once_more.verified_bytes == len(FILES["/file"]) - SIZE


def test_the_state_is_private_and_a_broken_one_costs_only_time(store):
    run(store, resume=False)
    with store.opened() as opened:
        place = os.path.join(opened.host_folder, "scrub.sqlite")
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
    with open(place, "wb") as file:
        file.write(b"no database" * 1000)
    report, _meter = run(store, resume=True)
    assert report.findings == [] and report.resumed_files == 1


def test_a_throttle_keeps_to_its_rate(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("fsdriver.scrubmeter.time.monotonic", lambda: clock[0])

    def sleep(seconds):
        clock[0] += seconds

    monkeypatch.setattr("fsdriver.scrubmeter.time.sleep", sleep)
    throttle = Throttle(2.0)
    for _ in range(40):
        throttle.take(1 << 19)
    assert clock[0] == pytest.approx(110.0)
    clock[0] += 50  # a pause is not made up for
    for _ in range(4):
        throttle.take(1 << 19)
    assert clock[0] == pytest.approx(161.0)
    free = Throttle(0)
    free.take(1 << 40)
    assert clock[0] == pytest.approx(161.0)


def test_the_store_is_measured_without_keys(store):
    with store.opened() as opened:
        files, total = measure(opened)
    assert files == len(FILES) + 2 + 1 + 1  # symlinks, a pipe, a sidecar
    assert total > sum(len(content) for content in FILES.values())
