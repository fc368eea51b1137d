"""What reaches a terminal is harmless."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from keyhierarchy import display
from keyhierarchy.audit import AuditLog

HOSTILE = "\x1b[2Jwiped\r\n\u202egpj\u2028\x07\x9b31m\0\udc80"


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_shown(text):
    assert display.shown(text).isprintable()


def test_what_is_harmless_is_shown_as_it_is():
    assert display.shown("Grüße, 世界 /tmp/a b") == "Grüße, 世界 /tmp/a b"
    assert display.shown("\x1b") == "\\x1b"


def test_a_hostile_record_is_one_harmless_line(tmp_path):
    log = AuditLog(str(tmp_path / "host"), b"s")
    record = log.append("test.event", "ok", reason=HOSTILE.replace("\udc80", ""))
    assert display.record_line(record).isprintable()
    line = display.json_line(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["reason"] == record.reason
    assert log.verify().count == 1
