"""A content database on its way to another host, and what is known of one without keys.

Export takes what the last commit wrote, and the policies that the host's anchor pins. Import trusts
nothing but the store's own keys: the document's MAC, and the pins, which the store's keystore and
this host's anchor have to agree with.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

from fsdriver import contentdb_document, contentdb_file
from fsdriver.contentdb_document import HEAD_SIZE, ExportInvalid, Head, Parser
from fsdriver.contentdb_file import FILE_NAME, KnownPolicy, Row, told
from fsdriver.errors import StorageFailed, StoreDamaged, StoreError, WrongArguments
from fsdriver.offline import OfflineStore
from fsdriver.store import control_folder
from keyhierarchy import anchor as anchors
from keyhierarchy import keystore as keystores
from keyhierarchy.anchor import PolicyPin
from keyhierarchy.clock import timestamp
from keyhierarchy.errors import AnchorMismatch

_COUNTS: Final = (
    "SELECT count(*) FROM folders",
    "SELECT count(*) FROM entries",
    "SELECT count(*) FROM objects WHERE generation > 0",
)
_ROWS: Final = (
    ("folders", "SELECT folder, reconciled FROM folders ORDER BY folder"),
    ("entries", "SELECT folder, text, object FROM entries ORDER BY folder, text"),
    ("objects", "SELECT object, generation FROM objects WHERE generation > 0 ORDER BY object"),
)


class NoDatabase(StoreError):
    """This host has none for the store."""

    exit_code = 30


class ExportOlder(StoreError):
    """This host knows of something newer than the export does."""

    exit_code = 30


def place_of(host_folder: str) -> str:
    """Where the database is, in the host's folder for a store."""
    return os.path.join(host_folder, FILE_NAME)


def _connect(host_folder: str, store_id: bytes) -> sqlite3.Connection:
    path = place_of(host_folder)
    if not contentdb_file.require_private(path):
        raise NoDatabase(
            f"this host has no content database for the store yet ({path}): mount the store once, "
            "import another host's, or make one with `ckfs contentdb rebuild`"
        )
    return contentdb_file.connect(path, store_id)


def status(host_folder: str, store_id: bytes) -> dict[str, Any]:
    """Facts, in the order in which they are to be shown; of the last commit, if it is mounted."""
    path = place_of(host_folder)
    with closing(_connect(host_folder, store_id)) as connection, told(path, "read"):
        meta = contentdb_file.read_meta(connection, path)
        policies, entries, folders, files, unopened = connection.execute(
            "WITH known(folder) AS (SELECT folder FROM folders UNION SELECT folder FROM entries) "
            "SELECT (SELECT count(*) FROM policies), (SELECT count(*) FROM entries), "
            "(SELECT count(*) FROM known), (SELECT count(*) FROM objects WHERE generation > 0 "
            "AND object NOT IN (SELECT folder FROM known)), "
            "(SELECT count(*) FROM entries WHERE length(object) = 0)"
        ).fetchone()
    return {
        "store_id": store_id.hex(),
        "database": path,
        "state": "complete" if meta.complete else "learning",
        "entries": entries,
        "entries_not_opened": unopened,
        "files": files,
        "folders": folders,
        "policies": policies,
        "last_commit": datetime.fromtimestamp(meta.committed, UTC).isoformat(timespec="seconds"),
        "checkpoint": meta.checkpoint,
        "unclean_stops": meta.unclean,
    }


def known_policies(host_folder: str) -> list[KnownPolicy]:
    """What this host's anchor pins, sorted."""
    anchor = anchors.AnchorFile(host_folder).load()
    return sorted(
        KnownPolicy(
            bytes.fromhex(pin.policy_id), pin.tik_generation, pin.fingerprint, pin.sealed_generation
        )
        for pin in (anchor.policies if anchor else ())
    )


def _mac_key(store: OfflineStore) -> bytes:
    root_site = bytes.fromhex(store.document.site_id)
    return contentdb_document.mac_key(store.sites.lease(root_site).metadata_key)


def export(store: OfflineStore, place: str) -> Head:
    """Write the document to a new file. A mounted store's is that of its last checkpoint."""
    policies = known_policies(store.host_folder)
    path = place_of(store.host_folder)
    with closing(_connect(store.host_folder, store.store_id)) as connection:
        with told(path, "read"):
            connection.execute("BEGIN")  # one moment, whatever a mount commits meanwhile
            counts = [connection.execute(one).fetchone()[0] for one in _COUNTS]
            head = Head(contentdb_file.read_meta(connection, path), (len(policies), *counts))
            _write_new(
                place,
                contentdb_document.pack(head, _rows(connection, policies), _mac_key(store)),
            )
    return head


def _rows(connection: sqlite3.Connection, policies: list[KnownPolicy]) -> Iterator[Row]:
    for policy in policies:
        yield "policies", policy
    for table, statement in _ROWS:
        for values in connection.execute(statement):
            yield table, values


def _write_new(place: str, pieces: Iterator[bytes]) -> None:
    try:
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise WrongArguments(f"{place} is there already; name a new file") from None
    except OSError as error:
        raise StoreError(f"{place} cannot be made: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        os.unlink(place)
        if isinstance(error, OSError):
            raise StorageFailed(f"{place} cannot be written: {error.strerror}") from None
        raise


def take_over(
    store: OfflineStore, place: str, accept_older: Callable[[ExportOlder], None]
) -> tuple[Head, bool]:
    """Make an export this host's content database. The store's lock must be held.

    `accept_older` is asked before anything older takes the place of what this host knows, and
    raises if it may not. Returns what came, and whether there was something to compare it with.
    Raises ExportInvalid, AnchorMismatch, StoreError.
    """
    path = place_of(store.host_folder)
    compared = False

    def look(new: str) -> None:
        nonlocal compared
        _check_policies(store, new, place)
        try:
            older = _older(path, new, store.store_id)
        except (NoDatabase, StoreDamaged):
            return  # that is what the import mends
        compared = True
        if older:
            accept_older(
                ExportOlder(f"the export {place} is older than what this host knows: {older}")
            )

    try:
        with open(place, "rb") as file:
            head = _check(store, file, os.fstat(file.fileno()).st_size)
            file.seek(0)
            # Once more while it is read: the file may be changed between the two.
            parser = Parser(file, _mac_key(store))
            contentdb_file.replace(path, parser.head.meta, parser.rows(), look)
    except ExportInvalid as error:
        raise ExportInvalid(
            f"the export {place} is refused: {error}; make a new one with `ckfs contentdb export` "
            "on the host that last used the store"
        ) from None
    except OSError as error:
        raise WrongArguments(f"{place} cannot be read: {error.strerror}") from None
    return head, compared


def _check(store: OfflineStore, file: BinaryIO, size: int) -> Head:
    head = Head.parse(file.read(HEAD_SIZE))
    if head.meta.store_id != store.store_id:
        raise ExportInvalid(
            f"it is about store {head.meta.store_id.hex()}, and {store.path} is store "
            f"{store.store_id.hex()}"
        )
    file.seek(0)
    contentdb_document.check(file, size, _mac_key(store))
    return head


def _check_policies(store: OfflineStore, new: str, place: str) -> None:
    """The store's keys are those that the exporting host knew, or endorsed by them."""
    with closing(sqlite3.connect(new)) as connection:
        pins = tuple(
            PolicyPin(
                policy_id=policy_id.hex(),
                tik_generation=tik_generation,
                fingerprint=fingerprint,
                sealed_generation=sealed_generation,
            )
            for policy_id, tik_generation, fingerprint, sealed_generation in connection.execute(
                "SELECT policy_id, tik_generation, fingerprint, sealed_generation FROM policies"
            )
        )
    keystore = keystores.load(control_folder(store.path), store.store_id)
    here = anchors.AnchorFile(store.host_folder).load()
    try:
        if pins:
            known = anchors.Anchor(
                store_id=store.store_id.hex(),
                first_seen=timestamp(),
                keystore_generation=max(pin.sealed_generation for pin in pins),
                policies=pins,
            )
            anchors.check_document(known, keystore, "the store's keystore")
        for pin in pins:
            section = keystore.section(pin.policy_id)
            if section is not None:
                anchors.check_section(pin, section, "the store's keystore")
            mine = here.pin(pin.policy_id) if here else None
            if (
                mine is not None
                and mine.tik_generation == pin.tik_generation
                and mine.fingerprint != pin.fingerprint
            ):
                raise AnchorMismatch(
                    f"this host has pinned another tenant intermediate key of policy "
                    f"{pin.policy_id} than the export has; find out which of the two hosts was "
                    "deceived, and do not write to the store until then"
                )
    except AnchorMismatch as error:
        raise AnchorMismatch(
            f"the export {place} is refused, as the host that made it knew other keys: {error}",
            policy_id=error.policy_id,
            place=place,
        ) from None


def _older(path: str, new: str, store_id: bytes) -> str:
    """What this host knows better; empty if nothing. Raises NoDatabase or StoreDamaged."""
    with closing(_connect(os.path.dirname(path), store_id)) as connection, told(path, "read"):
        here = contentdb_file.read_meta(connection, path)
        connection.execute("ATTACH DATABASE ? AS new", (new,))
        complete, checkpoint = connection.execute(
            "SELECT complete, checkpoint FROM new.meta"
        ).fetchone()
        (newer,) = connection.execute(
            "SELECT count(*) FROM main.objects AS mine JOIN new.objects AS other "
            "ON mine.object = other.object WHERE mine.generation > other.generation"
        ).fetchone()
    if checkpoint < here.checkpoint:
        return f"its checkpoint is number {checkpoint}, this host has seen {here.checkpoint}"
    if newer:
        return f"this host has seen {newer} of its files and folders newer than it says"
    if here.complete and not complete:
        return "it was still learning what the store holds, and this host knows all of it"
    return ""
