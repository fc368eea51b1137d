"""`ckfs scrub`, `ckfs salvage` and `ckfs verify`: work on a store without a mount."""

import json
import os
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsdriver.errors import StoreError, WrongArguments

if TYPE_CHECKING:
    from fsdriver.offline import OfflineStore
    from fsdriver.quarantine import Step
    from fsdriver.scrub import ScrubReport

Store = Annotated[str, typer.Argument(metavar="STORE", help="The folder with the ciphertext.")]
StateDir = Annotated[
    str | None, typer.Option("--state-dir", help="As for `ckfs mount`: where this host's keys are.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
LimitRate = Annotated[
    float, typer.Option("--limit-rate", metavar="MIB", min=0, help="Read at most MiB a second.")
]
_MIB = 1 << 20


class NotInThisState(StoreError):
    """The store has to be mounted once first."""

    exit_code = 30


def register(app: typer.Typer) -> None:
    """Put the commands beside the others of `ckfs`."""
    app.command(
        epilog="Examples:  ckfs scrub /srv/store    ckfs scrub --json --limit-rate 50 ./s    "
        "ckfs scrub --repair /srv/store    ckfs scrub --repair --yes /srv/store"
    )(scrub)
    app.command(
        epilog="Examples:  ckfs salvage /srv/store /reports/2026.odt --out ./2026.odt    "
        "ckfs salvage /srv/store .ckfs/quarantine/2026-11-21T101500Z/000001 --out ./it"
    )(salvage)
    app.command(
        epilog="Examples:  (cd /data && find . -type f -exec sha256sum {} +) > list; "
        "ckfs verify /srv/store list    ckfs verify --json /mnt/files/alice alice.sha256"
    )(verify)


def _state_dir(given: str | None) -> str:
    from keyhierarchy.statedir import default_state_dir  # noqa: PLC0415 keeps --help quick

    return os.path.abspath(given) if given else default_state_dir()


def _open(undo: ExitStack, store: str, state_dir: str) -> "OfflineStore":
    from fsdriver import hardening  # noqa: PLC0415 as above
    from fsdriver.offline import OfflineStore  # noqa: PLC0415

    hardening.harden()
    os.umask(0o077)  # what is written here is for whoever asked for it
    return undo.enter_context(OfflineStore.open(store, state_dir))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def scrub(
    store: Store,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the last scrub was stopped.")
    ] = False,
    limit_rate: LimitRate = 0.0,
    settle: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Beside a mount: how long what looks wrong may be a change under way.",
        ),
    ] = 30.0,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Say what would be moved to .ckfs/quarantine, and do it if that is confirmed. "
            "Not beside a mount.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm the repair.")] = False,
    as_json: AsJson = False,
    state_dir: StateDir = None,
) -> None:
    """Read and verify everything in a store, mounted or not: 0 clean, 40 damaged, 41 forged."""
    from fsdriver.findings import DAMAGED_EXIT  # noqa: PLC0415 as above
    from fsdriver.scrub import ScrubReport  # noqa: PLC0415
    from fsdriver.scrubkeys import finding_of  # noqa: PLC0415

    if yes and not repair:
        raise WrongArguments("--yes confirms a repair; say --repair, too")
    steps: list[Step] | None = None
    done: dict[str, Any] = {}
    with ExitStack() as undo:
        try:
            opened = _open(undo, store, _state_dir(state_dir))
        except Exception as error:
            finding = finding_of(error)
            if finding is None:
                raise
            # What keeps a store from being opened is what a scrub is to tell of.
            report = ScrubReport(store=os.path.abspath(store), started=_now(), findings=[finding])
            report.sum_up()
            _tell(report, None, {}, as_json=as_json)
            raise typer.Exit(report.exit_code or DAMAGED_EXIT) from None
        if repair:
            _take_lock(undo, opened)
        report = _run(opened, resume=resume, limit_rate=limit_rate, settle=settle)
        if repair:
            steps = _plan(opened, report)
            if not as_json:
                _tell(report, steps, {}, as_json=False)
            if steps and (yes or _confirmed(steps, as_json=as_json)):
                done = _repair(opened, steps, report.started)
    if as_json or not repair:
        _tell(report, steps, done, as_json=as_json)
    elif done:
        _tell_done(done)
    raise typer.Exit(report.exit_code)


def _take_lock(undo: ExitStack, store: "OfflineStore") -> None:
    from fsdriver.storelock import StoreLock  # noqa: PLC0415 as above

    lock = StoreLock(store.path, store.host_folder, read_only=False)
    undo.callback(lock.release)
    store.holds_lock = True
    if store.was_killed():
        raise NotInThisState(
            "the last driver was stopped before it could unmount, so what is damaged and what is "
            "only unfinished cannot be told apart; mount the store once, unmount it, then repair"
        )


def _run(store: "OfflineStore", *, resume: bool, limit_rate: float, settle: float) -> "ScrubReport":
    from fsdriver.scrub import Scrub  # noqa: PLC0415 as above
    from fsdriver.scrubmeter import Meter, Throttle  # noqa: PLC0415
    from fsdriver.scrubstate import ScrubState  # noqa: PLC0415

    meter = Meter(Throttle(limit_rate))
    with meter.shown(store, "scrub"), ScrubState(store.host_folder, resume=resume) as state:
        report = Scrub(store, state=state, meter=meter, settle=settle).run(_now())
    state.remove()
    return report


def _plan(store: "OfflineStore", report: "ScrubReport") -> "list[Step]":
    from fsdriver import quarantine  # noqa: PLC0415 as above

    return quarantine.plan(store, report)


def _confirmed(steps: "list[Step]", *, as_json: bool) -> bool:
    if as_json or not os.isatty(0):
        return False
    return typer.confirm(f"Do these {len(steps)} steps?")


def _repair(store: "OfflineStore", steps: "list[Step]", created: str) -> dict[str, Any]:
    from fsdriver.quarantine import Repair  # noqa: PLC0415 as above

    repair = Repair(store, created)
    failed = repair.run(steps)
    return {
        "steps": len(steps) - len(failed),
        "failed": failed,
        "quarantine": repair.place if repair.manifest.entries else "",
    }


def _tell(
    report: "ScrubReport", steps: "list[Step] | None", done: dict[str, Any], *, as_json: bool
) -> None:
    if as_json:
        import msgspec  # noqa: PLC0415 as above

        document = report.to_builtins()
        if steps is not None:
            document["repair"] = {"plan": msgspec.to_builtins(steps), "done": done or None}
        typer.echo(json.dumps(document, indent=2))
        return
    for finding in report.findings:
        typer.echo(
            f"{finding.verdict:10}  {_safe(finding.path or finding.place)}  ({finding.kind})"
        )
        typer.echo(f"            {_safe(finding.message)}")
        if finding.path and finding.place:
            typer.echo(f"            in the store: {_safe(finding.place)}")
        if finding.ranges:
            from fsdriver.findings import shown  # noqa: PLC0415 as above

            typer.echo(f"            bytes not readable: {shown(finding.ranges)}")
        if finding.remedy:
            typer.echo(f"            {_safe(finding.remedy)}")
    for note in report.notes:
        typer.echo(f"note: {_safe(note)}")
    rate = report.read_bytes / _MIB / report.seconds if report.seconds else 0.0
    typer.echo(
        f"{report.folders} folders, {report.files} files, {report.symlinks} symlinks; "
        f"{report.verified_bytes} bytes verified in {report.seconds:.1f} s ({rate:.0f} MiB/s)"
        + (f"; {report.resumed_files} files were verified before" if report.resumed_files else "")
    )
    counts = ", ".join(f"{count} {name}" for name, count in report.verdicts.items() if count)
    typer.echo(f"{report.result}: {counts or 'nothing is wrong'}")
    if steps is not None:
        _tell_plan(steps)


def _tell_plan(steps: "list[Step]") -> None:
    typer.echo("")
    typer.echo("A repair would do:" if steps else "There is nothing that a repair could do.")
    words = {
        "quarantine": "move to quarantine",
        "remove": "remove, it is empty",
        "forget": "expect no longer",
    }
    for step in steps:
        typer.echo(f"  {words[step.action]}: {_safe(step.path or step.place)}")
    if steps:
        typer.echo("Nothing has been changed yet; --yes, or yes at a terminal, does it.")


def _tell_done(done: dict[str, Any]) -> None:
    typer.echo(f"{done['steps']} steps done.")
    if done["quarantine"]:
        typer.echo(f"What was moved lies in {done['quarantine']}; its manifest says where it lay.")
    for one in done["failed"]:
        typer.echo(f"not done: {_safe(one)}")


def _safe(text: str) -> str:
    """Names come from the store: nothing of them is to steer a terminal."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in shown
    )


def salvage(
    store: Store,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Its path in the mount, or its backing file, wherever that lies."
        ),
    ],
    out: Annotated[str, typer.Option("--out", help="A new file outside the store, mode 0600.")],
    as_json: AsJson = False,
    state_dir: StateDir = None,
) -> None:
    """Write what is readable of a damaged file; say which bytes are missing: 0 whole, 40 not."""
    import msgspec  # noqa: PLC0415 as above

    from fsdriver import salvage as salvages  # noqa: PLC0415
    from fsdriver.findings import DAMAGED_EXIT, shown  # noqa: PLC0415

    with ExitStack() as undo:
        opened = _open(undo, store, _state_dir(state_dir))
        result = salvages.salvage(opened, salvages.find(opened, file), out)
    if as_json:
        typer.echo(json.dumps({**msgspec.to_builtins(result), "whole": result.whole}, indent=2))
    else:
        typer.echo(f"{result.recovered_bytes} of {result.size} bytes are in {_safe(out)}.")
        if result.missing:
            typer.echo(f"Missing, and zeros there: bytes {shown(result.missing, most=1 << 30)}")
        for note in result.notes:
            typer.echo(f"note: {_safe(note)}")
        typer.echo(
            "The name that it was sealed under, and whether it is the newest, was not asked."
        )
    raise typer.Exit(0 if result.whole else DAMAGED_EXIT)


def verify(
    where: Annotated[
        str, typer.Argument(metavar="STORE", help="A store, a mount point, or a folder in a mount.")
    ],
    checksums: Annotated[
        str, typer.Argument(metavar="LIST", help="What sha256sum wrote; - is standard input.")
    ],
    base: Annotated[
        str | None,
        typer.Option(help="The folder of the mount in which the names begin. Default: WHERE's, /."),
    ] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="blake2b for b2sum's lists; else the digests' length tells.")
    ] = None,
    ignore_extra: Annotated[
        bool, typer.Option("--ignore-extra", help="Files that the list has not are no difference.")
    ] = False,
    limit_rate: LimitRate = 0.0,
    as_json: AsJson = False,
    state_dir: StateDir = None,
) -> None:
    """Compare a store with a list of checksums: 0 equal, 42 not, 40 damaged, 41 forged."""
    import msgspec  # noqa: PLC0415 as above

    from fsdriver import checksumlist  # noqa: PLC0415
    from fsdriver.scrubmeter import Meter, Throttle  # noqa: PLC0415
    from fsdriver.verify import Verify  # noqa: PLC0415

    if algorithm is not None and algorithm not in checksumlist.ALGORITHMS:
        raise WrongArguments(f"{algorithm} is none of {', '.join(checksumlist.ALGORITHMS)}")
    store, below, mount_state = _store_of(where)
    content = _read_list(checksums)
    meter = Meter(Throttle(limit_rate))
    with ExitStack() as undo:
        opened = _open(undo, store, _state_dir(state_dir or mount_state))
        undo.enter_context(meter.shown(opened, "verify"))
        report = Verify(
            opened,
            checksumlist.parse(content, algorithm),
            base=base or below,
            mountpoint=os.path.abspath(where) if mount_state else None,
            allow_extra=ignore_extra,
            spend=meter.bytes_read,
        ).run()
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(report), indent=2))
    else:
        for one in report.files:
            message = f"  ({_safe(one.message)})" if one.message else ""
            typer.echo(f"{one.outcome:8}  {_safe(one.path)}{message}")
        for note in report.notes:
            typer.echo(f"note: {_safe(note)}")
        typer.echo(", ".join(f"{count} {outcome}" for outcome, count in report.counts.items()))
    raise typer.Exit(report.exit_code)


def _read_list(place: str) -> bytes:
    try:
        with open(0 if place == "-" else place, "rb", closefd=place != "-") as file:
            return file.read()
    except OSError as error:
        raise WrongArguments(f"the list {place} cannot be read: {error.strerror}") from None


def _store_of(where: str) -> tuple[str, str, str | None]:
    """The store, the folder of its mount that was meant, and the mount's state folder."""
    from fsdriver import mountpoints  # noqa: PLC0415 as above
    from fsdriver.control import STATUS  # noqa: PLC0415
    from fsdriver.store import control_folder  # noqa: PLC0415

    if os.path.lexists(control_folder(where)):
        return where, "/", None
    real = os.path.realpath(where)
    for one in sorted(mountpoints.mounted(), key=lambda one: -len(one.mountpoint)):
        if real == one.mountpoint or real.startswith(one.mountpoint.rstrip("/") + "/"):
            try:
                status = json.loads(os.getxattr(one.mountpoint, STATUS))
            except OSError as error:
                raise StoreError(f"{one.mountpoint} does not answer: {error.strerror}") from None
            return status["store"], "/" + os.path.relpath(real, one.mountpoint), status["state_dir"]
    return where, "/", None
