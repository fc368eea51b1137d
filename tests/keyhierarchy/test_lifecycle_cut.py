"""A verb that is cut short at any write, and goes on: no file key is lost, no wrap unverified."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import pytest

from keyhierarchy import durable
from keyhierarchy.errors import KeyHierarchyError, RootKeyUnavailable
from keyhierarchy.lifecycle import assigning, marks, register, resuming, rolling, session
from keyhierarchy.policy import PolicyState
from tests.keyhierarchy.lifecycle_fakes import PRIMARY, SECONDARY, World, key_id

PAIR = {"primary": PRIMARY, "secondary": SECONDARY}
NEW_PAIR = {"primary": key_id(1, vault="three"), "secondary": key_id(1, vault="four")}


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


def lose_vaults(world: World) -> None:
    world.rooms.trouble(PRIMARY, SECONDARY, error=RootKeyUnavailable("the vault is gone"))


# Verb: how it is run, whether the store is registered before, in which state it ends.
VERBS = {
    "register": (lambda w: register.register(w.store, w.rooms, **PAIR), False, "Registered"),
    "roll-primary": (
        lambda w: rolling.roll_root(w.store, w.rooms, "primary", key_id=key_id(2)),
        True,
        "Registered",
    ),
    "roll-availability": (
        lambda w: rolling.roll_root(w.store, w.rooms, "availability"),
        True,
        "Registered",
    ),
    "roll-tik": (lambda w: rolling.roll_tik(w.store, w.rooms), True, "Registered"),
    "roll-site-key": (
        lambda w: rolling.roll_site_key(w.store, w.rooms, w.section.sites[0].site_id),
        True,
        "Registered",
    ),
    "restore": (
        lambda w: register.restore(w.store, w.rooms, **NEW_PAIR, reason="lost"),
        True,
        "Registered",
    ),
    "offboard": (lambda w: register.offboard(w.store, w.rooms), True, "Unregistered"),
}


def is_moving(path: str) -> bool:
    """Whether a write matters to the order of effects: all but the head of the audit log."""
    return not path.endswith("audit.head")


class Cut:
    """Kills at the n-th document that is written, before or after it."""

    def __init__(self, monkeypatch, number: int, *, after: bool) -> None:
        self.number = number
        self.count = 0
        self.after = after
        self._real = durable.replace_document
        monkeypatch.setattr(durable, "replace_document", self)

    def __call__(self, path, content):
        if not is_moving(path):
            self._real(path, content)
            return
        self.count += 1
        if self.count == self.number and not self.after:
            raise Killed
        self._real(path, content)
        if self.count == self.number:
            raise Killed


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("verb", VERBS)
def test_cut_at_any_write_and_run_again(place, tmp_path_factory, monkeypatch, verb, after):
    run, registered, final = VERBS[verb]
    world = World(place, 3)
    if registered:
        register.register(world.store, world.rooms, **PAIR)
        world.add_files()
    kept = tmp_path_factory.mktemp("kept")
    shutil.copytree(place.folder, kept, dirs_exist_ok=True)
    if verb == "restore":
        lose_vaults(world)
    cuts = 0
    while True:
        shutil.rmtree(place.folder)
        shutil.copytree(kept, place.folder)
        before = world.bytes()
        with monkeypatch.context() as patch:
            cut = Cut(patch, cuts + 1, after=after)
            try:
                run(world)
            except Killed:
                pass
            else:
                break
        if world.bytes() == before:  # it had not begun
            run(world)
        elif world.policy.running is not None:
            world.check()
            if cuts % 2:
                run(world)
            else:
                (outcome,) = resuming.resume(world.store, world.rooms)
                assert outcome.resumed
        assert world.section.state.name == final
        assert world.policy.running is None
        world.check()
        assert resuming.resume(world.store, world.rooms) == []
        cuts += 1
    assert cut.count == cuts >= 4


@pytest.mark.parametrize("verb", VERBS)
def test_at_every_step_a_root_opens_everything(place, monkeypatch, verb):
    run, registered, _ = VERBS[verb]
    world = World(place, 2)
    if registered:
        register.register(world.store, world.rooms, **PAIR)
        world.add_files()
    if verb == "restore":
        lose_vaults(world)
    if verb == "restore":
        lose_vaults(world)
    names = []

    def step(name):
        """Look at what is on the disk at this moment."""
        names.append(name)
        world.check()
        wraps = world.policy.current_tik.wraps
        assert any(world.opens_alone(wrap.slot) for wrap in wraps)

    monkeypatch.setattr(session.Watch, "step", property(lambda _: step))
    run(world)
    assert len(names) >= 2


def test_another_verb_is_refused_until_the_first_is_finished(place):
    world = World(place, 2)

    def stop(name):
        raise Killed

    with pytest.raises(Killed):
        register.register(world.store, world.rooms, **PAIR, watch=session.Watch(step=stop))
    before = world.bytes()
    for verb in ("roll-primary", "roll-tik", "roll-site-key", "offboard"):
        with pytest.raises(KeyHierarchyError, match="resume"):
            VERBS[verb][0](world)
    with pytest.raises(KeyHierarchyError, match="resume"):
        register.register(world.store, world.rooms, **NEW_PAIR)
    assert world.bytes() == before
    register.register(world.store, world.rooms, **PAIR)
    world.check()


def test_restore_takes_over_a_registration_whose_vaults_were_lost(place):
    world = World(place, 2)

    def stop(name):
        raise Killed

    with pytest.raises(Killed):
        register.register(world.store, world.rooms, **PAIR, watch=session.Watch(step=stop))
    lose_vaults(world)
    with pytest.raises(RootKeyUnavailable):
        resuming.resume(world.store, world.rooms)
    register.restore(world.store, world.rooms, **NEW_PAIR, reason="lost on the way")
    world.check()
    assert not world.opens_alone("service")


def test_assign_is_one_write(place, monkeypatch):
    world = World(place, 3)
    assigning.create_policy(world.store, world.rooms, "second")
    site = world.section.sites[1].site_id
    for number in range(1, 4):
        for after in (False, True):
            with monkeypatch.context() as patch:
                Cut(patch, number, after=after)
                target = "second" if site in str(world.keystore.sections[0].sites) else "default"
                with contextlib.suppress(Killed):
                    assigning.assign(world.store, world.rooms, site, target)
            world.check()


@pytest.mark.parametrize("number", range(1, 4))
@pytest.mark.parametrize("after", [False, True])
def test_create_policy_is_finished_by_running_it_again(place, monkeypatch, number, after):
    world = World(place, 1)
    with monkeypatch.context() as patch:
        Cut(patch, number, after=after)
        try:
            assigning.create_policy(world.store, world.rooms, "second")
        except Killed:
            world.check()
    if len(world.keystore.sections) == 1 or number == 1 or (number == 2 and not after):
        assigning.create_policy(world.store, world.rooms, "second")
    assigning.assign(world.store, world.rooms, world.section.sites[0].site_id, "second")
    world.check()


def test_revoke_is_finished_by_running_it_again(place, monkeypatch):
    world = World(place, 1)
    with monkeypatch.context() as patch:
        Cut(patch, 1, after=False)
        with pytest.raises(Killed):
            marks.revoke(world.store, world.rooms, reason="x")
    assert world.policy.id in world.rooms.revoked
    marks.revoke(world.store, world.rooms, reason="x")
    assert world.section.state is PolicyState.Revoked


CHILD = """
import os, sys
from types import SimpleNamespace
from pathlib import Path
from tests.keyhierarchy.conftest import Place
from tests.keyhierarchy.lifecycle_fakes import FakeRooms, PRIMARY, SECONDARY
from keyhierarchy.lifecycle import register, session

folder, store_id, stop = Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3])
place = Place(folder, store_id)
count = 0

def step(name):
    global count
    count += 1
    if count == stop:
        os.kill(os.getpid(), 9)

rooms = FakeRooms(place.state)
register.register(
    session.Store(place.control, place.state, store_id), rooms,
    primary=PRIMARY, secondary=SECONDARY, watch=session.Watch(step=step),
)
"""


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_real_kill_and_then_resume(place, stop):
    world = World(place, 3)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(place.folder), place.store_id.hex(), str(stop)],
        check=False,
        cwd=os.getcwd(),
        capture_output=True,
        text=True,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    # What the child's fake host knew, this one's has to be told.
    for slot, one in (("primary", PRIMARY), ("secondary", SECONDARY)):
        world.rooms.allow(world.policy.id, slot, one)
    world.rooms.new_availability(world.policy.id)
    world.check()
    resuming.resume(world.store, world.rooms)
    assert world.section.state is PolicyState.Registered
    world.check()
