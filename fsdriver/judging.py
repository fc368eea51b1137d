"""Is a header what was sealed last, what a stop left, or somebody's doing? (FORMAT.md 12.3)"""

from typing import TYPE_CHECKING

from fsdriver import extentpages
from fsdriver.errors import HeaderInvalid, RolledBack, SizeMismatch

if TYPE_CHECKING:
    from fsdriver.sealedfile import SealedFile


def judge(file: "SealedFile", length: int) -> None:
    """Is this what was sealed last, what a stop left behind, or somebody's doing?"""
    state, session = file.state, file.session
    known = session.generations.generation(file.file_id)
    if state.generation < known:
        raise RolledBack(
            f"the header is of generation {state.generation}, this host knows {known}: an "
            "older file was put back in the store; restore the newest from a backup, or "
            "accept what is there with `ckfs contentdb rebuild`"
        )
    expected = file.geometry.ciphertext_size(state.size)
    if session.may_recover(state.session, file.file_id) and (
        state.dirty or state.generation > session.generations.committed_generation(file.file_id)
    ):
        file.provisional = True
    elif state.dirty:
        raise HeaderInvalid(
            "the file was left unsealed by a driver that this host does not know to have "
            "stopped: an old header was put back in the store, or the store was last written "
            "on another host; mount it there, or accept such files with -o recover"
        )
    elif length == expected or (length > expected and session.follows_a_stop):
        # What is behind the end was never sealed: a write that a stop cut short.
        extentpages.load(file)
        if length > expected and file.writable:
            file.backing.truncate(file.descriptor, expected)
            file.trimmed = length - expected
        if state.generation > known:
            session.generations.note_generation(file.file_id, state.generation)
    else:
        raise SizeMismatch(
            f"the backing file has {length} bytes and was sealed with {expected}: it was "
            f"{'cut' if length < expected else 'extended'} in the store"
        )
