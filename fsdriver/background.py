"""A mount in a process of its own, which is answered for once it stands (daemon(7)'s steps)."""

import io
import os
from contextlib import suppress
from typing import TextIO

from fsdriver import logs, refusals
from fsdriver.errors import StorageFailed, StoreError
from fsdriver.mount import Mount, MountRequest
from fsdriver.refusals import UNEXPECTED, exit_code_of


def in_background(request: MountRequest, log_place: str) -> int:
    """Fork, mount in the child, return 0 once the mount answers; the child never returns.

    What refused the mount is raised here with the child's words and exit code.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as answer:
            said = answer.read()
        if said == "ready":
            # The first answer of the mount itself: from here on programs can use it.
            try:
                os.stat(request.mountpoint)
            except OSError as error:
                raise StorageFailed(
                    f"{request.mountpoint} was mounted and does not answer: {error.strerror}; "
                    f"{log_place} says why, and `ckfs umount {request.mountpoint}` takes it away"
                ) from None
            return 0
        _pid, status = os.waitpid(child, 0)
        told, _colon, message = said.partition(":")
        refused = StoreError(
            message
            or f"the driver ended with status {status} before it had mounted; see {log_place}"
        )
        refused.exit_code = int(told) if told.isdigit() else 1
        raise refused
    # The child: a session of its own, no terminal, no working folder that could be unmounted.
    code = 1
    try:
        os.close(reading)
        os.setsid()
        code = _child(request, writing, log_place)
    except Exception as error:  # noqa: BLE001 there is nobody above to raise to
        logs.error("driver failed", error)
    finally:
        os._exit(code)


def _open_log(place: str) -> TextIO:
    try:
        return logs.open_file(place)
    except OSError as error:
        raise StoreError(
            f"the log {place} cannot be opened: {error.strerror}; name another with --log-file"
        ) from None


def _child(request: MountRequest, writing: int, log_place: str) -> int:
    def say(text: str) -> None:
        with suppress(BrokenPipeError):  # whoever asked for the mount was stopped; it stands
            os.write(writing, text.encode())
        os.close(writing)

    # Until the mount stands, its log has no place: a refused mount leaves nothing behind, and on
    # a host that sees the store for the first time the folder for it is not there yet.
    early = io.StringIO()
    logs.configure(early)
    mount = None
    try:
        mount = Mount(request)
        log = _open_log(log_place)
    except Exception as error:  # noqa: BLE001 told to the parent, which is whom the user watches
        if mount is not None:
            mount.close()
        told = refusals.in_words(error)
        code = exit_code_of(told)
        if code == UNEXPECTED and not isinstance(told, StoreError):
            with suppress(StoreError):
                logs.configure(_open_log(log_place))
                logs.error("mount failed", error)
        say(f"{code}:{str(told) or type(told).__name__}")
        return code
    log.write(early.getvalue())
    logs.configure(log)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    try:
        mount.run(lambda: say("ready"))
    except StorageFailed as error:
        logs.error("ended badly", reason=str(error))
        return error.exit_code
    return 0
