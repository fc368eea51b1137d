"""`ckfs site` on a real mount: keys of their own, borders that programs copy across."""

from __future__ import annotations

import errno
import json
import os
import subprocess

import pytest

pytestmark = pytest.mark.mounted


def create(driven, name, workload="onedrive"):
    return driven.run("site", "create", driven.mountpoint / name, "--workload", workload)


def show(driven, path):
    return json.loads(driven.run("site", "show", "--json", path).stdout)


def test_a_site_is_made_listed_and_shown(driven):
    create(driven, "alice")
    create(driven, "board", "teams")
    (driven.mountpoint / "alice" / "deep").mkdir()
    (driven.mountpoint / "alice" / "deep" / "file").write_bytes(b"hers")
    (driven.mountpoint / "mine").write_bytes(b"mine")
    listed = json.loads(driven.run("site", "list", "--json", driven.mountpoint).stdout)["sites"]
    assert [site["workload"] for site in listed] == ["onedrive", "onedrive", "teams"]
    assert len({site["site_id"] for site in listed}) == 3
    shown = show(driven, driven.mountpoint / "alice" / "deep" / "file")
    assert shown["site_id"] == listed[1]["site_id"]
    assert shown["state"] == "Unregistered"
    assert shown["progress"] == 1.0
    assert shown["lease"]["lease_valid"]
    assert show(driven, driven.mountpoint / "mine")["site_id"] == listed[0]["site_id"]
    driven.remount()
    assert (driven.mountpoint / "alice" / "deep" / "file").read_bytes() == b"hers"


def test_programs_copy_where_they_cannot_rename(driven):
    create(driven, "alice")
    (driven.mountpoint / "mine").write_bytes(b"mine")
    for call in (os.rename, os.link):
        with pytest.raises(OSError) as caught:  # noqa: PT011 its errno is compared
            call(driven.mountpoint / "mine", driven.mountpoint / "alice" / "mine")
        assert caught.value.errno == errno.EXDEV
    subprocess.run(["mv", driven.mountpoint / "mine", driven.mountpoint / "alice"], check=True)
    assert (driven.mountpoint / "alice" / "mine").read_bytes() == b"mine"
    assert not (driven.mountpoint / "mine").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("create", "there", "--workload", "teams"), 1, "is there already"),
        (("create", "new", "--workload", "teams", "--policy", "other"), 30, "no policy"),
        (("create", "no/parent", "--workload", "teams"), 1, "is no folder"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(driven, arguments, code, said):
    (driven.mountpoint / "there").mkdir()
    verb, name, *options = arguments
    done = driven.run("site", verb, driven.mountpoint / name, *options, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir(driven.mountpoint) == ["there"]


def test_a_path_outside_every_mount_is_refused(driven):
    done = driven.run("site", "show", "/etc", check=False)
    assert done.returncode == 23
    assert "no mounted store" in done.stderr
