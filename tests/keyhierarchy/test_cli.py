"""`ckfs-keys`: one line for each error, its own exit code, and nothing changed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from keyhierarchy import cli, errors
from keyhierarchy import keystore as keystores
from keyhierarchy.audit import AuditLog
from keyhierarchy.servicekeys import roll_service_key, service_keys


@pytest.fixture
def run(place, capsys, monkeypatch):
    """Run the command line in this process: (exit code, standard output, standard error)."""
    monkeypatch.setattr(cli.secrecy, "shut", lambda: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["--state-dir", place.state, *arguments])
        shown = capsys.readouterr()
        return ended.value.code, shown.out, shown.err

    return run


def fails(result: tuple[int, str, str], code: int, text: str) -> None:
    exit_code, _, err = result
    assert exit_code == code
    assert re.search(text, err), err
    assert err.startswith("ckfs-keys: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_status(run, made):
    code, out, err = run("status", made.store)
    assert (code, err) == (0, "")
    for fact in ("Unregistered, keys open", made.store_id.hex(), made.site_id.hex(), "onedrive"):
        assert fact in out
    code, out, _ = run("status", "--json", made.store)
    assert code == 0
    assert json.loads(out)["policies"][0]["opens"] is True


def test_status_says_when_the_store_is_seen_for_the_first_time(run, made):
    for file in made.host.iterdir():
        file.unlink()
    made.host.rmdir()
    assert "FIRST SEEN" in run("status", made.store)[1]
    assert "FIRST SEEN" not in run("status", made.store)[1]


def test_rollover_and_rewrap(run, made):
    code, out, _ = run("service-key", "list")
    assert code == 0
    assert out.count("current") == 1
    assert run("service-key", "roll")[0] == 0
    code, out, _ = run("service-key", "list", "--json")
    assert [key["state"] for key in json.loads(out)["keys"]] == ["archived", "current"]
    code, out, _ = run("rewrap", "--json", made.store)
    assert code == 0
    new, old = reversed(service_keys(made.state).masters())
    (step,) = json.loads(out)["rewrapped"]
    assert (step["old_key_id"], step["new_key_id"]) == (old.key_id, new.key_id)
    assert "nothing to do" in run("rewrap", made.store)[1]
    code, out, _ = run("service-key", "roll", "--json")
    assert json.loads(out)["archived"] == new.key_id
    assert " -> " in run("rewrap", made.store)[1]


def test_audit_show(run, made):
    code, out, _ = run("audit", "show", made.store)
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()] == [
        "policy.create",
        "policy.create",
        "site.create",
    ]
    code, out, _ = run("audit", "show", "--json", "--last", "1", made.store)
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["site.create"]
    assert "service-key.create" in run("audit", "show", "--service-keys")[1]


def test_audit_verify(run, made):
    code, out, _ = run("audit", "verify", made.store)
    assert code == 0
    assert "3 records, unbroken" in out
    assert json.loads(run("audit", "verify", "--json", made.store)[1])["count"] == 3
    assert run("audit", "verify", "--service-keys")[0] == 0
    with open(made.host / "audit.log", "ab") as log:
        log.write(b"torn")
    assert "cut the last record off" in run("audit", "verify", made.store)[1]
    assert "damaged line" in run("audit", "show", made.store)[2]
    run("status", made.store)
    assert "1 times a crash" in run("audit", "verify", made.store)[1]


def test_a_broken_log_is_told_and_begun_again(run, made):
    log = made.host / "audit.log"
    log.write_bytes(log.read_bytes().replace(b"policy.create", b"policy.delete"))
    fails(run("audit", "verify", made.store), 12, "record 1 was altered.*audit restart")
    log.unlink()
    fails(run("status", made.store), 12, "audit restart")
    code, out, _ = run("audit", "restart", "--reason", "disk lost", made.store)
    assert code == 0
    assert "begun again" in out
    assert run("audit", "verify", made.store)[0] == 0
    assert run("status", made.store)[0] == 0
    code, out, _ = run("audit", "restart", "--reason", "again", made.store)
    assert "kept as" in out


def test_a_lost_log_of_a_known_store_is_no_empty_log(run, made):
    for name in ("audit.log", "audit.head"):
        (made.host / name).unlink()
    for verb in ("show", "verify"):
        fails(run("audit", verb, made.store), 12, "is gone")


def test_a_host_without_records_says_so(run, place):
    code, out, err = run("audit", "show", place.store)
    assert (code, out) == (0, "")
    assert "no records yet" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["status"],
        ["status", "--nonsense", "x"],
        ["audit", "show"],
        ["audit", "show", "--service-keys", "x"],
        ["audit", "show", "--last", "0", "x"],
        ["audit", "restart", "x"],
    ],
)
def test_wrong_usage(run, arguments):
    fails(run(*arguments), 2, "--help")


@pytest.mark.parametrize("arguments", [["audit"], ["service-key"]])
def test_no_verb_shows_the_help(run, arguments):
    code, _, err = run(*arguments)
    assert code == 2
    assert "Commands:" in err


def test_each_bad_store_has_its_code_and_nothing_is_changed(run, made):
    store_json = os.path.join(made.control, "store.json")

    def with_file(path, content, arguments, code, text):
        with open(path, "rb") as kept:
            before = kept.read()
        try:
            with open(path, "wb") as target:
                target.write(content)
            fails(run(*arguments), code, text)
        finally:
            with open(path, "wb") as target:
                target.write(before)

    keystore, state = str(made.keystore), ["status", made.store]
    newer = b'{"format":9,"lowest_reader":9,"store_id":"' + b"a" * 32 + b'"}'
    fails(run("status", made.store + "/none"), 10, "no store")
    with_file(store_json, newer, state, 11, "newer version")
    with_file(keystore, newer, state, 11, "newer version")
    with_file(store_json, b"", state, 12, "damaged")
    with_file(keystore, b"{}", state, 12, "damaged")
    with_file(made.host / "anchor.json", b"{}", state, 12, "damaged")
    os.rename(keystore, keystore + ".away")
    fails(run(*state), 12, "does not exist.*backup")
    os.rename(keystore + ".away", keystore)
    os.rename(made.service_keys, made.folder / "away")
    fails(run(*state), 13, "backup")
    fails(run("service-key", "list"), 13, "backup")
    fails(run("service-key", "roll"), 13, "backup")
    os.rename(made.folder / "away", made.service_keys)
    os.chmod(made.service_keys, 0o740)
    fails(run(*state), 16, "chmod 0700")
    os.chmod(made.service_keys, 0o700)
    roll_service_key(made.state)
    with keystores.exclusive(made.control):
        fails(run("rewrap", made.store), 17, "try again")
    assert run(*state)[0] == 0


def test_a_state_folder_in_the_store_is_refused(made, capsys, monkeypatch):
    monkeypatch.setattr(cli.secrecy, "shut", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--state-dir", made.store + "/state", "status", made.store])
    assert ended.value.code == 16
    assert "inside the store" in capsys.readouterr().err


def test_every_error_class_has_a_code_and_a_subclass_stands_before_its_parent():
    seen: list[type] = []
    for kind, _ in cli.EXIT_CODES:
        assert not any(issubclass(kind, before) for before in seen)
        seen.append(kind)
    for kind in errors.KeyHierarchyError.__subclasses__():
        assert cli.exit_code(kind("x")) != cli.EXIT_UNEXPECTED
    assert cli.exit_code(errors.SiteUnknown("x")) == 12
    for code in {str(code) for _, code in cli.EXIT_CODES}:
        assert re.search(rf"\b{code}\b", cli._EXITS)


def test_every_verb_has_an_example(run):
    verbs = [
        ["status"],
        ["rewrap"],
        ["audit", "show"],
        ["audit", "verify"],
        ["audit", "restart"],
        ["service-key", "list"],
        ["service-key", "roll"],
    ]
    for verb in verbs:
        code, out, _ = run(*verb, "--help")
        assert code == 0
        assert f"Example: ckfs-keys {verb[0]}" in out, verb


def test_an_unexpected_error_is_one_line(run, made, monkeypatch):
    def breaks(*_args, **_kwargs):
        raise RuntimeError("a \x1b[31mdefect")

    monkeypatch.setattr(AuditLog, "records", breaks)
    fails(run("audit", "show", made.store), 1, r"unexpected: RuntimeError: a \\x1b")
    monkeypatch.setenv("CKFS_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli.main(["--state-dir", made.state, "audit", "show", made.store])


def test_an_interrupt_is_no_traceback(run, made, monkeypatch):
    def interrupts(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(AuditLog, "records", interrupts)
    assert run("audit", "show", made.store)[::2] == (130, "")


def program(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "keyhierarchy.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_as_a_program(made):
    done = program("status", made.store, env={**os.environ, "CKFS_STATE_DIR": made.state})
    assert (done.returncode, done.stderr) == (0, "")
    assert "keys open" in done.stdout
    bare = program()
    assert (bare.returncode, bare.stdout) == (2, "")
    assert "Commands:" in bare.stderr
    assert program("--version").stdout.startswith("ckfs-keys ")
    hostile = program("status", "/nowhere/\x1b[2J\n")
    assert hostile.returncode == 10
    assert hostile.stderr.count("\n") == 1
    assert "\x1b" not in hostile.stderr


def test_help_is_quick_because_it_loads_no_keys():
    code = (
        "import sys, contextlib, keyhierarchy.cli as cli\n"
        "with contextlib.suppress(SystemExit): cli.main(['--help'])\n"
        "heavy = ('cryptography', 'azure', 'keyhierarchy.hierarchy')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_key_reaches_a_core_dump_or_another_process():
    code = (
        "import resource, keyhierarchy.cli as cli, ctypes\n"
        "cli.secrecy.shut()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "(0, 0) 0\n"
