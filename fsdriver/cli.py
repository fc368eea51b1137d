"""`ckfs`: make a store, mount it, unmount it, say what is there. Builds objects, decides little.

Every refusal is one line on standard error and an exit code of refusals.py; `--json` output is one
document on standard output.
"""

import json
import os
import sys
import threading
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import typer

from fsdriver import __version__, cli_contentdb, cli_scrub, cli_site, refusals
from fsdriver.format.geometry import CHUNK_SIZES

app = typer.Typer(
    name="ckfs",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The Customer Key filesystem: a folder in plaintext, its store in ciphertext, and the "
    "root keys in the hands of whom they belong to.",
    epilog="Exit codes: 0 done, 1 unexpected, 2 wrong arguments, 10 no store, 11 newer format, "
    "12 damaged or forged, 13 root key missing, 14 root key unavailable, 15 root key refused, "
    "16 permission, 17 store in use, 18 no mount point, 19 mount point not empty, 20 store inside "
    "the mount point, 21 mount point inside the store, 22 no FUSE, 23 not mounted, 24 mount in "
    "use, 25 a new store's folder is not empty, 26 a store put back to an older state, 27 the "
    "disk below it is gone, full or fails, 30 not in the store's present state, 40 scrub, salvage "
    "and verify: damaged, 41 forged, 42 verify: not equal.",
)

app.add_typer(cli_site.app, name="site")
app.add_typer(cli_contentdb.app, name="contentdb")
cli_scrub.register(app)

Store = Annotated[str, typer.Argument(metavar="STORE", help="The folder with the ciphertext.")]
StateDir = Annotated[
    str | None,
    typer.Option(
        "--state-dir",
        help="Where this host keeps service-managed keys, anchors and audit logs. Default: "
        "/var/lib/ckfs for root, else $XDG_DATA_HOME/ckfs; or CKFS_STATE_DIR.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


def _state_dir(given: str | None) -> str:
    from keyhierarchy.statedir import default_state_dir  # noqa: PLC0415 keeps --help quick

    return os.path.abspath(given) if given else default_state_dir()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ckfs {__version__}, format 1")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which ckfs.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Examples:  ckfs init /srv/store    ckfs init --plaintext-names --chunk-size 16384 ./s"
)
def init(
    store: Store,
    plaintext_names: Annotated[
        bool,
        typer.Option("--plaintext-names", help="Leave file names readable; contents never are."),
    ] = False,
    chunk_size: Annotated[
        int,
        typer.Option(
            help=f"Bytes encrypted as one, a power of two from {CHUNK_SIZES[0]} to "
            f"{CHUNK_SIZES[-1]}: larger is faster in streams, smaller for small changes."
        ),
    ] = 65536,
    state_dir: StateDir = None,
) -> None:
    """Make an empty or new folder a store, under service-managed keys."""
    from fsdriver import store as stores  # noqa: PLC0415
    from keyhierarchy import secrecy  # noqa: PLC0415

    secrecy.shut()
    state = _state_dir(state_dir)
    document = stores.create(
        store,
        state,
        plaintext_names=plaintext_names,
        chunk_size=chunk_size,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    typer.echo(f"{store} is a store now, with id {document.store_id}.")
    typer.echo(f"Its root key is service-managed, in {state}/service-keys. Back that folder up:")
    typer.echo("without it nobody can read the store.")
    typer.echo(f"Mount it with: ckfs mount {store} MOUNTPOINT")


@app.command(
    epilog="Examples:  ckfs mount /srv/store /mnt/files    ckfs mount -f -o ro ./s ./m    "
    "ckfs mount -o allow_other,noatime /srv/store /mnt/files"
)
def mount(
    store: Store,
    mountpoint: Annotated[
        str, typer.Argument(metavar="MOUNTPOINT", help="An empty folder outside the store.")
    ],
    foreground: Annotated[
        bool, typer.Option("--foreground", "-f", help="Stay, and log to standard error.")
    ] = False,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            "--options",
            metavar="OPT[,OPT...]",
            help="ro, allow_other, default_permissions (on but for root alone), uid=N, gid=N (who "
            "files are shown as belonging to), noatime, nosuid, suid, nodev, dev, noexec, sync, "
            "recover (accept files that a driver killed on another host left unsealed), "
            "entry_timeout=SECONDS, attr_timeout=SECONDS, writeback, nowriteback (whether the "
            "kernel gathers writes), awake, noawake (whether processors may not sleep while "
            "requests follow each other; takes root); fstab's own words are ignored.",
        ),
    ] = None,
    transport: Annotated[
        str,
        typer.Option(
            envvar="CKFS_TRANSPORT",
            help="wire (speaks the kernel's protocol itself, the fast one) or pyfuse3.",
        ),
    ] = "wire",
    log_file: Annotated[
        str | None, typer.Option(help="Where the background driver logs; private to its user.")
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Show a store in plaintext. Returns when the mount answers, unless in the foreground."""
    from fsdriver import background, logs, mountoptions  # noqa: PLC0415
    from fsdriver import mount as mounts  # noqa: PLC0415
    from fsdriver import store as stores  # noqa: PLC0415
    from keyhierarchy import statedir  # noqa: PLC0415

    request = mounts.MountRequest(
        store=os.path.abspath(store),
        mountpoint=os.path.abspath(mountpoint),
        state_dir=_state_dir(state_dir),
        options=mountoptions.parse(options or []),
        transport=mountoptions.transport(transport),
    )
    if foreground:
        logs.configure()
        mounts.Mount(request).run(lambda: None)
        return
    document = stores.load(request.store)
    place = log_file or os.path.join(
        statedir.store_folder(request.state_dir, bytes.fromhex(document.store_id)), "mount.log"
    )
    background.in_background(request, os.path.abspath(place))


@app.command(epilog="Examples:  ckfs umount /mnt/files    ckfs umount --lazy /mnt/files")
def umount(
    mountpoint: Annotated[str, typer.Argument(metavar="MOUNTPOINT", help="Where it is mounted.")],
    lazy: Annotated[
        bool, typer.Option("--lazy", help="Now from sight, for good when nobody uses it any more.")
    ] = False,
) -> None:
    """Unmount, and wait until it is gone."""
    from fsdriver import mountpoints  # noqa: PLC0415

    mountpoints.unmount(mountpoint, lazy=lazy)


@app.command(epilog="Examples:  ckfs status    ckfs status --json | jq '.mounts[].open_files'")
def status(as_json: AsJson = False) -> None:
    """The ckfs mounts of this machine: since when, what is open, under which keys."""
    from fsdriver import mountpoints  # noqa: PLC0415

    found = [_ask(one.mountpoint, one.store) for one in mountpoints.mounted()]
    if as_json:
        typer.echo(json.dumps({"mounts": found}, indent=2))
        return
    if not found:
        typer.echo("No ckfs is mounted here.")
    for one in found:
        typer.echo(f"{one['mountpoint']}  from  {one['store']}")
        if "problem" in one:
            typer.echo(f"  {one['problem']}")
            continue
        typer.echo(
            f"  process {one['pid']} since {one['since']}, {one['transport']}, "
            f"{'read-only' if one['read_only'] else 'read-write'}, {one['names']} names, "
            f"chunks of {one['chunk_size']}"
        )
        typer.echo(f"  {one['open_files']} files open, {one['inodes']} inodes known")
        if "durability" in one:  # a driver that was started before an update has none
            _show_durability(one["durability"])
        if "memory" in one:
            _show_memory(one["memory"])
        if one["memory_reason"]:
            typer.echo(f"  memory locked: {one['memory_locked']}; {one['memory_reason']}")
        for policy in one["policies"]:
            typer.echo(f"  policy {policy['policy_id']}: {policy['health']}")
            for root in policy["roots"]:
                typer.echo(
                    f"    {root['slot']} {root['key_id']}: {root['state']}"
                    + (f" ({root['cause']})" if root["cause"] else "")
                    + (f" since {root['since']}" if root["since"] else "")
                )
        for site in one["sites"]:
            lease = f"lease for {site['lease_seconds_left']} s" if site["lease_valid"] else "LOCKED"
            typer.echo(
                f"  site {site['site_id']}: policy {site['policy_id']}, site key generation "
                f"{site['site_key_generation']}, {lease}"
            )


def _show_durability(facts: dict[str, Any]) -> None:
    since = facts["checkpoint_seconds"]
    typer.echo(
        f"  {facts['journal_bytes']} bytes wait in the journal, "
        + ("no checkpoint yet" if since is None else f"checkpoint {since} s ago")
        + f", content database {facts['content_database']}"
    )
    if facts["failed"]:
        typer.echo(f"  FAILED: {facts['failed']}")
    if facts["refused"] or facts["trusted"]:
        typer.echo(
            f"  refused {facts['refused']} times what is not as it was written, took "
            f"{facts['trusted']} things as a stop had left them: `ckfs-keys audit show`"
        )


def _show_memory(facts: dict[str, Any]) -> None:
    if "resident_bytes" in facts:
        typer.echo(
            f"  memory: {facts['resident_bytes'] >> 20} MiB, "
            f"{facts['peak_bytes'] >> 20} MiB when it was most"
        )
    typer.echo(
        f"  kept: {facts['resting_files']} files ready to be opened again, "
        f"{facts['chunk_cache_bytes'] >> 10} KiB of chunks, {facts['names']} names, "
        f"{facts['entries']} entries and {facts['generations']} generations of the content database"
    )


def _ask(mountpoint: str, store: str) -> dict[str, Any]:
    """The mount's own answer, unless it does not come: a hung mount must not hang `status`."""
    from fsdriver import control  # noqa: PLC0415 keeps --help quick

    answer: dict[str, Any] = {}

    def ask() -> None:
        try:
            answer.update(json.loads(os.getxattr(mountpoint, control.STATUS)))
        except OSError as error:
            answer["problem"] = f"does not answer: {error.strerror}"

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(5.0)
    if not answer:
        answer["problem"] = "does not answer"
    return {"store": store, "mountpoint": mountpoint, **answer}


@app.command(
    epilog="Examples:  ckfs info /srv/store    ckfs info /mnt/files/report.odt    "
    "ckfs info --json /srv/store/1k3v..."
)
def info(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A store, a backing file, or a mounted file.")
    ],
    as_json: AsJson = False,
) -> None:
    """What a store or a file's header says without any key."""
    from fsdriver import inspection  # noqa: PLC0415

    facts = inspection.inspect(path)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):{width}}  {value}")


def _end(error: BaseException) -> NoReturn:
    error = refusals.in_words(error)
    code = refusals.exit_code_of(error)
    message = " ".join(str(error).split()) or type(error).__name__
    if code == refusals.UNEXPECTED and not hasattr(error, "exit_code"):
        message = f"unexpected: {type(error).__name__}: {message}"
    sys.stderr.write(f"ckfs: {message}\n")
    sys.exit(code)


def main() -> None:
    """The entry point; turns whatever comes up into one line and an exit code."""
    try:
        app()
    except KeyboardInterrupt:
        sys.stderr.write("ckfs: interrupted\n")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("CKFS_TRACEBACK"):
            raise
        _end(error)


if __name__ == "__main__":
    main()
