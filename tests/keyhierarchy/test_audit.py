"""The audit log: only ever longer, and no change, cut or loss stays hidden."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import stat

import pytest

from keyhierarchy import audit
from keyhierarchy.audit import AuditLog
from keyhierarchy.errors import AuditChainBroken, KeystoreInvalid, StorageUnavailable

SUBJECT = b"s" * 16


@pytest.fixture
def folder(tmp_path) -> str:
    return str(tmp_path / "host")


@pytest.fixture
def log(folder) -> AuditLog:
    return AuditLog(folder, SUBJECT)


@pytest.fixture
def filled(log) -> AuditLog:
    for number in range(1, 7):
        log.append("test.event", "ok", generation=number, reason=f"reason {number}")
    return log


def lines(log: AuditLog) -> list[bytes]:
    with open(log.path, "rb") as content:
        return content.read().splitlines(keepends=True)


def rewrite(log: AuditLog, content: list[bytes]) -> None:
    with open(log.path, "wb") as target:
        target.write(b"".join(content))


def test_what_is_appended_is_read_back(log):
    made = log.append(
        "tik.rewrap",
        "refused",
        policy_id="p" * 32,
        site_id="s" * 32,
        key_id="service:1",
        generation=4,
        reason="because",
    )
    assert list(log.records()) == [made]
    assert (made.seq, made.event, made.outcome) == (1, "tik.rewrap", "refused")
    assert (made.actor.uid, made.actor.pid) == (os.getuid(), os.getpid())
    assert made.request_id == log.request_id
    assert log.verify().count == 1
    assert log.head().hash == made.hash


def test_the_log_and_its_head_are_private(filled, folder):
    for name in (audit.LOG_NAME, audit.HEAD_NAME):
        assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


def test_the_chain_by_the_letter_of_the_spec(filled):
    label = b"ckfs/v1/audit-log"
    packed = b"".join(len(part).to_bytes(4, "big") + part for part in (label, SUBJECT))
    previous = hashlib.sha256(packed).hexdigest()
    for number, line in enumerate(lines(filled), 1):
        text, _, end = line.rpartition(b',"hash":"')
        record = json.loads(line)
        assert end == record["hash"].encode() + b'"}\n'
        assert record["seq"] == number
        assert record["previous"] == previous
        assert hashlib.sha256(text).hexdigest() == record["hash"]
        previous = record["hash"]


def test_no_log_is_an_empty_log(log):
    assert list(log.records()) == []
    assert log.verify().count == 0
    assert log.head().count == 0


def test_every_flipped_bit_is_found(filled):
    whole = b"".join(lines(filled))
    for bit in range(0, len(whole) * 8, 5):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        rewrite(filled, [bytes(changed)])
        with pytest.raises(AuditChainBroken, match="audit restart"):
            filled.verify()


@pytest.mark.parametrize("kept", range(6))
def test_a_cut_is_found_by_verify_and_by_the_next_append(filled, kept):
    rewrite(filled, lines(filled)[:kept])
    with pytest.raises(AuditChainBroken, match=f"ends at record {kept}, 6 were written"):
        filled.verify()
    before = lines(filled)
    with pytest.raises(AuditChainBroken, match="6 were written"):
        filled.append("test.event", "ok")
    assert lines(filled) == before


def test_a_lost_log_is_found(filled):
    os.unlink(filled.path)
    with pytest.raises(AuditChainBroken):
        filled.verify()
    with pytest.raises(AuditChainBroken):
        filled.append("test.event", "ok")


def test_a_lost_head_is_found(filled, folder):
    os.unlink(os.path.join(folder, audit.HEAD_NAME))
    with pytest.raises(AuditChainBroken, match="head"):
        filled.append("test.event", "ok")


def test_a_damaged_head_is_told(filled, folder):
    with open(os.path.join(folder, audit.HEAD_NAME), "w") as head:
        head.write("{}")
    for use in (filled.verify, lambda: filled.append("test.event", "ok")):
        with pytest.raises(KeystoreInvalid, match="head"):
            use()


@pytest.mark.parametrize("change", ["drop", "swap", "double", "insert"])
def test_records_dropped_swapped_doubled_or_made_up_are_found(filled, change):
    content = lines(filled)
    if change == "drop":
        del content[2]
    elif change == "swap":
        content[1], content[2] = content[2], content[1]
    elif change == "double":
        content.insert(2, content[2])
    else:
        content.insert(2, content[2].replace(b"reason 3", b"reason X"))
    rewrite(filled, content)
    with pytest.raises(AuditChainBroken):
        filled.verify()


def test_a_chain_made_anew_from_some_record_on_does_not_reach_the_head(filled, tmp_path):
    forger = AuditLog(str(tmp_path / "forger"), SUBJECT)
    for number in range(1, 7):
        forger.append("test.event", "ok", generation=number, reason="nothing happened")
    rewrite(filled, lines(forger))
    with pytest.raises(AuditChainBroken, match="record 6 is not the one"):
        filled.verify()


def test_the_log_of_another_store_does_not_pass(filled, folder):
    other = AuditLog(folder, b"t" * 16)
    with pytest.raises(AuditChainBroken, match="record 1 does not continue"):
        other.verify()


@pytest.mark.parametrize("cut", [2, 3, 40, 200])
def test_a_line_cut_off_by_a_crash_is_told_and_the_chain_goes_on(filled, folder, cut):
    # The record was being written: it is not in the head yet.
    with open(os.path.join(folder, audit.HEAD_NAME), "rb") as head:
        kept = head.read()
    filled.append("test.event", "ok", reason="lost")
    content = lines(filled)
    rewrite(filled, [*content[:-1], content[-1][:-cut]])
    with open(os.path.join(folder, audit.HEAD_NAME), "wb") as head:
        head.write(kept)
    found = filled.verify()
    assert (found.count, found.torn, found.recovered) == (6, True, 0)
    made = filled.append("test.event", "ok", reason="after")
    records = [record for record in filled.records() if record is not None]
    assert [record.event for record in records[-2:]] == ["audit.recovered", "test.event"]
    assert hashlib.sha256(content[-1][:-cut]).hexdigest() in records[-2].reason
    assert (made.seq, records[-2].seq) == (8, 7)
    found = filled.verify()
    assert (found.count, found.torn, found.recovered) == (8, False, 1)


def test_a_record_that_lacks_only_its_newline_is_there(filled):
    content = lines(filled)
    rewrite(filled, [*content[:-1], content[-1][:-1]])
    assert filled.verify().count == 6
    assert filled.append("test.event", "ok").seq == 7
    found = filled.verify()
    assert (found.count, found.recovered, found.torn) == (7, 0, False)


@pytest.mark.parametrize(
    "torn", [b"\0" * 300, b'{"seq":7', b"garbage\nmore garbage", b"\xff\xfe\n", b"\n", b"a\rb"]
)
def test_whatever_a_crash_left_after_the_last_record_is_told(filled, torn):
    with open(filled.path, "ab") as log:
        log.write(torn)
    assert filled.verify().torn
    filled.append("test.event", "ok")
    found = filled.verify()
    assert (found.count, found.recovered, found.torn) == (8, 1, False)


def test_a_crash_while_a_crash_is_being_told_of(filled):
    with open(filled.path, "ab") as log:
        log.write(b'{"seq":7,"ti')
        log.write(b'\n{"seq":7,"time":"2026')
    filled.append("test.event", "ok")
    assert filled.verify().recovered == 1


def test_a_crash_in_the_first_record(log, folder):
    os.mkdir(folder, 0o700)
    with open(log.path, "wb") as content:
        content.write(b'{"seq":1,"time"')
    assert log.append("test.event", "ok").seq == 2
    assert log.verify().recovered == 1


def test_what_a_crash_left_cannot_be_changed_later(filled):
    with open(filled.path, "ab") as log:
        log.write(b"torn bytes")
    filled.append("test.event", "ok")
    rewrite(filled, [b"".join(lines(filled)).replace(b"torn bytes", b"born bytes")])
    with pytest.raises(AuditChainBroken, match="damaged line follows record 6"):
        filled.verify()


def test_more_damage_than_a_crash_makes_is_refused(filled):
    with open(filled.path, "ab") as log:
        log.write(b"x" * 40_000)
    with pytest.raises(AuditChainBroken, match="more than its last lines"):
        filled.append("test.event", "ok")


def test_a_record_that_was_on_disk_before_the_head_is_kept(filled, folder):
    # The crash came between the record and the head.
    with open(os.path.join(folder, audit.HEAD_NAME), "rb") as head:
        kept = head.read()
    filled.append("test.event", "ok")
    with open(os.path.join(folder, audit.HEAD_NAME), "wb") as head:
        head.write(kept)
    assert filled.verify().count == 7
    assert filled.append("test.event", "ok").seq == 8


def test_a_full_disk_is_told(filled, monkeypatch):
    def fails(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fails)
    with pytest.raises(StorageUnavailable, match="No space left"):
        filled.append("test.event", "ok")


def test_a_long_reason_is_cut_and_an_endless_one_too(log):
    made = log.append("test.event", "ok", reason="r" * 100_000)
    assert len(made.reason) == 1000
    log.append("test.event", "ok", reason="\x00" * 100_000)
    assert log.verify().count == 2


def append_many(folder: str, name: str, count: int) -> None:
    log = AuditLog(folder, SUBJECT)
    for _ in range(count):
        log.append(name, "ok")


def test_several_processes_append_in_one_chain(log, folder):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=append_many, args=(folder, f"worker.{number}", 10))
        for number in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert log.verify().count == 30
    events = [record.event for record in log.records()]
    assert {event: events.count(event) for event in events} == {
        "worker.0": 10,
        "worker.1": 10,
        "worker.2": 10,
    }


def test_restart_keeps_the_broken_log_aside_and_says_so(filled):
    broken = lines(filled)[:3]
    rewrite(filled, broken)
    record, aside = filled.restart("disk failed")
    with open(aside, "rb") as kept:
        assert kept.read() == b"".join(broken)
    assert (record.seq, record.event) == (1, "audit.restarted")
    assert record.reason.startswith("disk failed; pinned before: 6 records, last hash ")
    filled.append("test.event", "ok")
    assert filled.verify().count == 2


def test_restart_of_nothing_begins_a_log(log):
    record, aside = log.restart("new host")
    assert aside is None
    assert record.reason == "new host; pinned before: none"
    assert log.verify().count == 1
