"""What a report says of a run that nobody measured."""

import base64
import json
import re

import msgspec
import pytest

from bench import report, report_html, report_ratios, report_text
from bench.figures import Machine, Row, Run, Sample, System, save
from bench.hot_path_figures import HotPathRow, HotPathRun
from bench.keys_figures import KeysRow, KeysRun
from bench.report_files import Unreadable, load
from bench.report_grid import Cell, Grid, as_html, markdown
from bench.report_sections import sections

MACHINE = Machine(cpu="Acme | 9000", cores=2, kernel="6.1", memory=1 << 34, load=0.1, python="3.11")
SYSTEMS = [
    System(name="folder", kind="floor", version="ext4"),
    System(name="ckfs", kind="ours", version="0.1", setting="chunks of 64 KiB"),
    System(name="gofs", kind="peer", version="2.3"),
    System(name="slowfs", kind="peer", version="1"),
    System(name="brokenfs", kind="peer", version="3", failure="contents were <wrong>"),
    System(name="absentfs", kind="peer", version="-", failure="not installed"),
]


def row(name, ours, gofs, slowfs=(), *, folder=(0.1, 0.1), broken=(0.01,), **more):
    samples = [
        Sample(system="folder", seconds=list(folder)),
        Sample(
            system="ckfs", seconds=list(ours), driver_cpu=[0.5] * len(ours), peak_memory=50 << 20
        ),
        Sample(
            system="gofs", seconds=list(gofs), driver_cpu=[1.0] * len(gofs), peak_memory=90 << 20
        ),
        Sample(
            system="slowfs",
            seconds=list(slowfs),
            failure=None if slowfs else "took more than 60 s",
        ),
        Sample(system="brokenfs", seconds=list(broken)),
    ]
    amount = {"amount": 1 << 20, "amount_unit": "bytes"} | more
    return Row(name=name, does=f"does {name}", samples=samples, **amount)


@pytest.fixture
def run():
    return Run(
        date="2026-11-22T03:00:00+00:00",
        commit="abc1234",
        machine=MACHINE,
        systems=list(SYSTEMS),
        durability="in the store",
        where="tmpfs",
        place="tmpfs of 1 GiB",
        repetitions=3,
        rows=[
            # The machine slowed down in the second repetition; the ratios did not.
            row("steady", [1.0, 4.0, 1.0], [2.0, 8.0, 2.0], [9.0, 40.0, 9.0]),
            row("close", [1.0, 1.0, 1.0], [0.9, 1.1, 1.2], [3.0, 3.0, 3.0]),
            row("lost", [2.0, 2.0, 2.0], [1.0, 1.0, 1.0]),
            row("ours failed", [], [1.0, 1.0]),
            row("unlike", [1.0, 3.0, 2.0], [4.0, 4.0], amount=200, amount_unit="operations"),
        ],
    )


def verdict(run, name):
    return next(one for one in report_ratios.judge(run).rows if one.row == name)


def test_a_ratio_is_taken_within_a_repetition(run):
    steady = verdict(run, "steady")
    assert steady.outcome == "won"
    assert not steady.close
    assert (steady.fastest.system, steady.fastest.ratio) == ("gofs", 2.0)
    assert (steady.fastest.low, steady.fastest.high) == (2.0, 2.0)
    assert steady.rate == 1 << 20
    assert steady.spread == 3.0


def test_medians_alone_are_compared_where_repetitions_are_missing(run):
    unlike = verdict(run, "unlike")
    assert unlike.fastest.ratio == 2.0
    assert unlike.rate == 100


def test_a_race_that_chance_can_decide_is_called_close(run):
    close = verdict(run, "close")
    assert close.outcome == "won"
    assert close.close


def test_a_row_is_lost_to_a_faster_peer_and_by_failing(run):
    assert verdict(run, "lost").outcome == "lost"
    failed = verdict(run, "ours failed")
    assert failed.outcome == "lost"
    assert failed.fastest.system == "gofs"
    assert (report_ratios.judge(run).won, report_ratios.judge(run).contested) == (3, 5)


def test_a_floor_is_no_peer_and_neither_is_one_that_did_the_wrong_thing(run):
    assert {one.row: one.fastest.system for one in report_ratios.judge(run).rows} == dict.fromkeys(
        ("steady", "close", "lost", "ours failed", "unlike"), "gofs"
    )
    broken = next(one for one in verdict(run, "steady").against if one.system == "brokenfs")
    assert broken.ratio is None
    assert not broken.sound


def test_without_a_peer_nothing_is_won(run):
    run.systems = [one for one in run.systems if one.kind != "peer"]
    assert {one.outcome for one in report_ratios.judge(run).rows} == {"no peer", "lost"}
    assert "No peer was measured" in "".join(
        sections([msgspec.structs.replace(run, rows=run.rows[:1])])[0].facts
    )


def test_ours_counts_for_nothing_if_its_contents_were_wrong(run):
    run.systems[1] = msgspec.structs.replace(run.systems[1], failure="lost a file")
    found = report_ratios.judge(run)
    assert found.won == 0
    assert report_ratios.Failure(system="ckfs", row=None, reason="lost a file") in found.failures


def test_everything_that_failed_is_told_with_its_reason(run):
    failures = {(one.system, one.row): one.reason for one in report_ratios.judge(run).failures}
    assert failures["absentfs", None] == "not installed"
    assert failures["brokenfs", None] == "contents were <wrong>"
    assert failures["slowfs", "lost"] == "took more than 60 s"
    text = report_text.text(sections([run])[0])
    assert "| absentfs | every row | not installed |" in text
    assert "| slowfs | lost; ours failed; unlike | took more than 60 s |" in text


def test_what_is_won_clearly_is_named(run):
    said = sections([run])[0].facts[0]
    assert "faster than the fastest peer on 3 of 5 rows" in said
    assert "At least 1.5 times as fast as every peer: steady; unlike." in said


def test_effort_is_compared_on_rows_that_both_finished(run):
    effort = {one.system: one for one in report_ratios.judge(run).effort}
    assert effort["gofs"].rows == 4
    assert (effort["gofs"].driver_cpu, effort["gofs"].ours) == (4.0, 2.0)
    assert effort["gofs"].peak_memory == 90 << 20
    assert effort["folder"].rows == 0


def test_a_run_of_others_alone_is_refused(run):
    run.systems = [one for one in run.systems if one.kind != "ours"]
    with pytest.raises(ValueError, match="ours"):
        report_ratios.judge(run)


def scaled(run):
    run.bench = "scale"
    run.rows = [
        row(f"create {files}", [seconds], [seconds], scale=files, curve="create", amount=files)
        for files, seconds in ((1000, 0.1), (10000, 1.2))
    ]
    return run


def test_rows_of_a_curve_are_compared_with_each_other(run):
    scaled(run)
    found = report_ratios.judge(run)
    assert found.rows == []
    assert found.curves[0].of("ckfs") == [(1000, pytest.approx(100)), (10000, pytest.approx(120))]
    assert found.curves[0].growth("ckfs") == pytest.approx(1.2)
    assert found.curves[0].growth("absentfs") is None
    assert "at most 1.20 times what it cost with the fewest (create)" in sections([run])[0].facts[0]


KEYS = KeysRun(
    date="2026-11-22T03:00:00+00:00",
    commit="abc1234",
    machine=MACHINE,
    place="tmpfs",
    probe_seconds=2,
    rows=[
        KeysRow(files=10, making=0.1, seconds={"register": [1.0], "mount": [0.5]}),
        KeysRow(files=1000, making=9.0, seconds={"register": [1.1], "mount": [0.4, 0.5, 2.0]}),
    ],
)
HOT_PATH = HotPathRun(
    date="2026-11-22T03:00:00+00:00",
    commit="abc1234",
    machine=MACHINE,
    place="tmpfs",
    request=1 << 20,
    rounds=2,
    rows=[
        HotPathRow(
            chunk_size=65536,
            microseconds={"raw encrypt": [75.0, 150.0], "chunks encrypt": [100.0, 200.0]},
        )
    ],
)


def test_growth_of_a_step_and_share_of_a_part():
    assert KEYS.growth("register") == pytest.approx(1.1)
    assert KEYS.growth("mount") == 1.0
    assert HOT_PATH.rows[0].share("chunks encrypt") == 0.75
    assert HOT_PATH.rows[0].share("geometry") is None
    text = "\n".join(report_text.text(one) for one in sections([KEYS, HOT_PATH]))
    assert "| register | 1.00 s | 1.10 s | **1.10** |" in text
    assert "(75 %)" in text


def test_every_file_is_read_back_as_what_it_is(run, tmp_path):
    save([run], tmp_path / "run.json")
    (tmp_path / "keys.json").write_bytes(msgspec.json.encode(KEYS))
    assert load(tmp_path / "run.json") == [run]
    assert load(tmp_path / "keys.json") == [KEYS]


@pytest.mark.parametrize("content", [b"", b"{", b"[{}]", b'{"bench": "other"}', b"\xff"])
def test_a_file_that_is_no_measurement_is_named(tmp_path, content):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(Unreadable, match=r"bad\.json"):
        load(tmp_path / "bad.json")
    with pytest.raises(SystemExit, match=r"absent\.json"):
        report.run([tmp_path / "absent.json"])


def test_cells_cannot_break_out_of_a_table():
    grid = Grid(title="a <b>", header=["x", "y"], rows=[[Cell("1 | 2"), Cell("<i>", strong=True)]])
    assert "| 1 \\| 2 | **<i>** |" in markdown(grid)
    assert "<td><strong>&lt;i&gt;</strong></td>" in as_html(grid)


def test_the_folder_has_a_page_that_needs_nothing_else(run, tmp_path, capsys):
    report.present([run, scaled(msgspec.structs.replace(run)), KEYS, HOT_PATH], to=tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.findall(r"""(?:src|href|srcset)=["'](?!data:)""", page)
    assert "http://" not in page
    assert "https://" not in page
    assert "contents were &lt;wrong&gt;" in page
    images = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    drawn = sorted(one.name for one in (tmp_path / "out").glob("*.png"))
    assert drawn == [
        "1-ratios.png",
        "1-throughput.png",
        "2-scale.png",
        "3-keys.png",
        "4-hot-path.png",
    ]
    assert len(images) == 2 * len(drawn)
    assert all(base64.b64decode(one).startswith(b"\x89PNG") for one in images)
    machine = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert machine[0]["won"] == 3
    assert "faster than the fastest peer on 3 of 5 rows" in capsys.readouterr().out


def test_a_page_without_plots_is_still_a_page(run):
    assert "<picture>" not in report_html.page(sections([run]), drawn={})


def test_results_grow_at_their_end_and_never_twice(run, tmp_path, monkeypatch):
    results = tmp_path / "RESULTS.md"
    results.write_text("# Results\n\n## older\n\nkept\n")
    monkeypatch.setattr(report, "RESULTS", results)
    report.present([run], append=True)
    text = results.read_text()
    assert text.startswith("# Results\n\n## older\n\nkept\n\n## 2026-11-22T03:00:00+00:00, abc1234")
    assert "Durability of ckfs: in the store" in text
    with pytest.raises(SystemExit, match="already"):
        report.present([run], append=True)
    with pytest.raises(SystemExit, match="quick"):
        report.present([msgspec.structs.replace(run, quick=True)], append=True)
    assert results.read_text() == text
