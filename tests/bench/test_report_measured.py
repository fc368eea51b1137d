"""Measurements in process, made small: everything is measured, and can be reported."""

import msgspec
import pytest

from bench import hot_path, keys_store, operations, operations_list, report_text
from bench.hot_path_figures import PARTS, RAW
from bench.report_files import load
from bench.report_sections import sections
from bench.unmounted import opened
from fsdriver.inodes import ROOT


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(operations_list, "FILES", 8)
    monkeypatch.setattr(operations_list, "LARGE", 1 << 20)


def test_every_operation_is_measured_and_reported(small, tmp_path, capsys):
    costs = operations.measure([], 2)
    assert [row.operation for row in costs.rows] == list(operations.OPERATIONS)
    assert all(row.microseconds >= row.least > 0 for row in costs.rows)
    assert costs.rows[0].times_reference == 1.0
    (tmp_path / "before.json").write_bytes(msgspec.json.encode(costs))
    assert load(tmp_path / "before.json") == [costs]
    assert "| rename-over |" in report_text.text(sections([costs])[0])
    operations.run(["getattr"], repetitions=7, against=str(tmp_path / "before.json"))
    line = next(one for one in capsys.readouterr().out.splitlines() if one.startswith("getattr"))
    assert line.endswith("%")


def test_what_is_compared_with_must_be_a_measurement(tmp_path):
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(SystemExit, match=r"other\.json is not what"):
        operations.run(["getattr"], repetitions=7, against=str(tmp_path / "other.json"))


def test_a_profile_names_what_took_the_time(small, capsys):
    operations.profile("create-4k", 1, lines=1000)
    assert "filesystem.py" in capsys.readouterr().out


def test_every_part_of_the_hot_path_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(hot_path, "REQUESTS", 2)
    monkeypatch.setattr(hot_path, "CHUNK_SIZES", (65536, 262144))
    run = hot_path.measure(tmp_path, 2)
    assert [row.chunk_size for row in run.rows] == [65536, 262144]
    for row in run.rows:
        assert row.microseconds.keys() == PARTS.keys()
        assert all(len(taken) == 2 and min(taken) > 0 for taken in row.microseconds.values())
        assert all(row.share(part) for part in RAW)
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_many_files_is_one_that_opens(monkeypatch, tmp_path):
    monkeypatch.setattr(keys_store, "FILES_PER_FOLDER", 10)
    assert keys_store.make(tmp_path, tmp_path / "state", 25) > 0
    with opened(str(tmp_path / "store"), str(tmp_path / "state")) as unmounted:
        filesystem = unmounted.filesystem
        counts = []
        for name in (b"folder 0", b"folder 1", b"folder 2"):
            handle = filesystem.opendir(filesystem.lookup(ROOT, name).number)
            counts.append(len(list(filesystem.readdir(handle, 0))) - 2)
            filesystem.releasedir(handle)
    assert counts == [10, 10, 5]
