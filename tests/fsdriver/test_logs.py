"""Log lines: one an event, whatever is in it."""

import io
import os
from contextlib import suppress

import pytest

from fsdriver import logs


@pytest.fixture
def log():
    stream = io.StringIO()
    before = logs.configure(stream)
    yield stream
    logs.configure(before)


def test_a_line_has_time_level_event_and_facts(log):
    logs.warning("first sight", store="/srv/store", count=3, reason="trusted from now")
    stamp, rest = log.getvalue().split(" ", 1)
    assert stamp.startswith("timestamp=20") and stamp.endswith("Z")
    assert rest == (
        'level=warning event="first sight" store=/srv/store count=3 reason="trusted from now"\n'
    )


def test_a_name_can_neither_end_a_line_nor_reach_a_terminal(log):
    logs.error("refused", path='a"\nevent=forged \x1b[2J\x9b\\')
    (line,) = log.getvalue().splitlines()
    assert line.endswith(r'path="a\"\nevent=forged \x1b[2J\x9b\\"')


def test_a_failure_leaves_its_traceback_without_values(log):
    secret = "5ec3e7" * 4
    try:
        raise RuntimeError("injected") from ValueError(len(secret))
    except RuntimeError as error:
        logs.error("unexpected", error, path="/a")
    (line,) = log.getvalue().splitlines()
    assert "RuntimeError: injected" in line and "ValueError: 24" in line
    assert secret not in line


def test_a_log_without_room_fails_nobody():
    with suppress(OSError), open("/dev/full", "w", encoding="utf-8") as full:
        before = logs.configure(full)
        logs.info("unmounting", signal="SIGTERM")
        logs.configure(before)


def test_names_that_are_no_unicode_are_kept(tmp_path):
    with logs.open_file(os.fspath(tmp_path / "log")) as stream:
        before = logs.configure(stream)
        logs.info("recovered", path=os.fsdecode(b"/\xff"))
        logs.configure(before)
    assert (tmp_path / "log").read_text().endswith("path=/\\udcff\n")
