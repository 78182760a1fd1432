"""After-hooks over the real store: at least once, for each device in order, shared and bounded."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from typing import Any

import pytest

from gateway.core.after_hooks import (
    LEASE_MS,
    MOST_ATTEMPTS,
    AfterHooks,
    backoff_ms,
    delivery_id,
)
from gateway.core.model import (
    AccessToken,
    DeviceProfile,
    Event,
    EventKind,
    Followed,
    HookBacklog,
    HookRule,
    HookTrouble,
    Outcome,
    Peer,
    Policy,
    ProvisionType,
    Secret,
    Wire,
)
from gateway.core.ports import NewProfile
from gateway.store.queries import QUERIES
from gateway.store.retention import Retention
from gateway.store.sql_hooks import SqlHooks
from gateway.store.sql_registrar import SqlRegistrar

KINDS = ("device:provision", "device:attributes", "device:remove")
RULE = HookRule(url="http://h/", secret_env="S", events=KINDS)


class Ear:
    """A hook in memory: hears, and fails for the devices it is told to fail for."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.bodies: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.fails: Counter[str] = Counter()
        self.down = False
        self.hold: asyncio.Event | None = None
        self.chance: random.Random | None = None

    async def ask(self, *_: Any, **__: Any) -> object:
        raise AssertionError("an after-hook is told")

    async def tell(
        self, rule: HookRule, body: bytes, *, deadline_s: float, delivery: str
    ) -> HookTrouble | None:
        told = json.loads(body)
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(0)
        name = told["deviceName"]
        if self.down or (self.chance is not None and self.chance.random() < 0.3):
            return HookTrouble("down")
        if self.fails[name]:
            self.fails[name] -= 1
            return HookTrouble("it answered with status 500")
        self.heard.append((name, told["seq"]))
        self.bodies.append(told)
        self.ids.append(delivery)
        return None


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def hooks(store) -> SqlHooks:
    return SqlHooks(store)


@pytest.fixture
def after(hooks, ear, clock) -> AfterHooks:
    return AfterHooks(hooks, ear, clock, jitter=lambda: 1.0)


@pytest.fixture
def keep(store, event):
    """Saves a profile, by default with an after-hook."""

    async def make(name: str = "meters", rule: HookRule | None = RULE) -> DeviceProfile:
        profile = DeviceProfile(
            id=0,
            name=name,
            provision_type=ProvisionType.X509_CERTIFICATE_CHAIN,
            policy=Policy(after=rule),
        )
        new = NewProfile(profile=profile, key=None, secret=None, spare=None)
        registrar = SqlRegistrar(store)
        return await registrar.save_profile(new, event(EventKind.PROFILE_UPDATE))

    return make


@pytest.fixture
def born(store, newcomer, clock):
    """Devices of a profile, by name; their births are events."""

    async def make(profile: DeviceProfile, *names: str) -> list[Any]:
        found = []
        for name in names:
            token = AccessToken(Secret(f"token-of-{profile.name}-{name}"))
            result = await store.create_device(newcomer(profile, name, credentials=token))
            found.append(result.device)
        return found

    return make


@pytest.fixture
def happens(store, event):
    """Something happens to a device."""

    async def make(device: Any, **fields: Any) -> None:
        await store.record(event(device_id=device.id, subject=device.name, **fields))
        await store.writer.settled()

    return make


async def deliver(after: AfterHooks, rounds: int = 1) -> None:
    for _ in range(rounds):
        await after.look()
        await after.settle()


async def backlog(hooks: SqlHooks, profile: DeviceProfile) -> tuple[int, int]:
    found = (await hooks.backlog()).get(profile.id, HookBacklog())
    return found.waiting, found.dead


@pytest.mark.every_database
async def test_what_happens_after_the_hook_was_named_is_told_once_in_order(
    keep, born, happens, after, ear, hooks, registrar, event
):
    """Births, changes and the removal of a device; not what was before, nor what was refused, nor
    kinds that were not asked for, nor devices of other profiles."""
    plain = await keep(rule=None)
    other = await keep("other", None)
    [old] = await born(plain, "old")
    meters = await keep()
    first, second = await born(meters, "a", "b")
    await born(other, "x")
    await happens(first)
    await happens(first, outcome=Outcome.REFUSED)
    await happens(second, kind=EventKind.DEVICE_LOGIN)
    await happens(old)
    removed = event(EventKind.DEVICE_REMOVE, device_id=second.id, subject="b")
    assert await registrar.remove_device(second.id, removed)
    await deliver(after, 4)
    told = [(one["event"], one["deviceName"]) for one in ear.bodies]
    assert sorted(told) == [
        ("device:attributes", "a"),
        ("device:attributes", "old"),
        ("device:provision", "a"),
        ("device:provision", "b"),
        ("device:remove", "b"),
    ]
    for name in "ab":
        seqs = [seq for heard, seq in ear.heard if heard == name]
        assert seqs == sorted(seqs)
    [birth] = [one for one in ear.bodies if one["deviceId"] == first.uuid and one["seq"] > 0][:1]
    assert (birth["profile"], birth["deviceName"], birth["detail"]) == ("meters", "a", {})
    assert len(set(ear.ids)) == 5
    assert ear.ids[0].startswith(f"{meters.uuid}-")
    assert await backlog(hooks, meters) == (0, 0)
    await deliver(after)
    assert len(ear.heard) == 5


async def test_a_profile_without_hooks_costs_one_look(after, hooks, keep, born, store):
    """Nothing is written for it."""
    plain = await keep(rule=None)
    await born(plain, "a")
    commits = store.writer.sizes.total
    await deliver(after, 3)
    assert store.writer.sizes.total == commits
    assert await hooks.followed() == ()


@pytest.mark.every_database
async def test_a_device_waits_behind_its_oldest_event_and_holds_up_no_other(
    keep, born, happens, after, ear, clock, hooks
):
    """While the first of `a` is tried again, nothing later of `a` is told, and `b` goes on."""
    meters = await keep()
    a, b = await born(meters, "a", "b")
    for _ in range(2):
        await happens(a)
        await happens(b)
    ear.fails["a"] = 2
    await deliver(after, 5)
    assert [name for name, _ in ear.heard] == ["b"] * 3
    assert await backlog(hooks, meters) == (3, 0)
    assert await hooks.last_reason(meters.id) == "it answered with status 500"
    for wait_ms in (1000, 2000):
        clock.now += wait_ms - 1
        await deliver(after)
        assert len(ear.heard) == 3, "too early"
        clock.now += 1
        await deliver(after, 4)
    seqs = [seq for name, seq in ear.heard if name == "a"]
    assert len(seqs) == 3
    assert seqs == sorted(seqs)


async def test_order_and_completeness_hold_under_random_failures(
    keep, born, happens, hooks, ear, clock
):
    """A third of all calls fail; in the end each device's events were told, each in order."""
    after = AfterHooks(hooks, ear, clock, jitter=random.Random(1).random)
    meters = await keep()
    devices = await born(meters, *(f"d{n}" for n in range(6)))
    for _ in range(4):
        for device in devices:
            await happens(device)
    ear.chance = random.Random(7)
    for _ in range(300):
        await deliver(after)
        clock.now += 700
        if await backlog(hooks, meters) == (0, 0):
            break
    by_device: defaultdict[str, list[int]] = defaultdict(list)
    for name, seq in ear.heard:
        by_device[name].append(seq)
    assert {name: len(seqs) for name, seqs in by_device.items()} == {f"d{n}": 5 for n in range(6)}
    assert all(seqs == sorted(seqs) for seqs in by_device.values())


@pytest.mark.every_database
async def test_what_was_told_and_not_marked_is_told_again(
    keep, born, hooks, ear, clock, monkeypatch
):
    """A process that ends between the two is no loss: another tells it when the lease is over, with
    the same delivery id."""
    meters = await keep()
    await born(meters, "a")
    killed = AfterHooks(hooks, ear, clock)
    with monkeypatch.context() as patch:

        async def never(one: Any) -> None:
            raise asyncio.CancelledError

        patch.setattr(hooks, "delivered", never)
        await deliver(killed)
    restarted = AfterHooks(hooks, ear, clock)
    await deliver(restarted)
    assert len(ear.heard) == 1
    clock.now += LEASE_MS
    await deliver(restarted)
    assert len(ear.heard) == 2
    assert ear.ids[0] == ear.ids[1]
    assert await backlog(hooks, meters) == (0, 0)


async def test_a_device_with_very_much_waiting_is_put_back_as_a_whole(
    keep, born, happens, after, ear, clock, hooks, monkeypatch
):
    """In several steps; nothing of it is due before its oldest is."""
    monkeypatch.setattr("gateway.store.hook_deliveries.STEP", 4)
    monkeypatch.setattr("gateway.store.sql_hooks.STEP", 4)
    meters = await keep()
    [a] = await born(meters, "a")
    for _ in range(9):
        await happens(a)
    ear.fails["a"] = 1
    await after.look()
    await after.settle()
    assert (await backlog(hooks, meters))[0] == 10
    assert await hooks._driver.point("hook_due", meters.id, clock.now + 999) is None
    clock.now += 1000
    await deliver(after, 10)
    assert len(ear.heard) == 10


@pytest.mark.every_database
async def test_what_was_to_be_told_to_a_hook_that_is_no_more_is_forgotten(
    keep, born, happens, after, ear, clock, hooks, store
):
    """Not at once, so that a slip is no loss; then all of it, and nothing of others. A hook that
    comes again is told what happens from then on."""
    meters, other = await keep(), await keep("other")
    devices = await born(meters, "a", "b")
    await born(other, "x")
    ear.down = True
    await deliver(after)
    await keep(rule=None)
    await happens(devices[0])
    assert [one.name for one in await hooks.followed()] == ["other"]
    await deliver(after)
    assert await backlog(hooks, meters) == (2, 0)
    await Retention(store, clock).sweep()
    assert await backlog(hooks, meters) == (0, 0)
    assert await backlog(hooks, other) == (1, 0)
    ear.down = False
    await keep()
    await happens(devices[1])
    clock.now += 60_000
    await deliver(after, 3)
    assert sorted(name for name, _ in ear.heard) == ["b", "x"]


async def test_a_stop_gives_back_what_it_did_not_finish(keep, born, hooks, ear, clock):
    """The next process need not wait for the lease."""
    meters = await keep()
    await born(meters, "a")
    stopped = AfterHooks(hooks, ear, clock)
    ear.hold = asyncio.Event()
    assert await stopped.look() == 1
    await stopped.close(0.05)
    ear.hold = None
    await deliver(AfterHooks(hooks, ear, clock))
    assert [name for name, _ in ear.heard] == ["a"]


async def test_a_stop_while_some_are_being_taken_gives_them_back(
    keep, born, hooks, ear, clock, monkeypatch
):
    """Nor does anybody wait for the lease of what a process took just as it was told to stop."""
    await born(await keep(), "a", "b")
    taken, go, take = asyncio.Event(), asyncio.Event(), hooks.take

    async def slow(*asked):
        found = await take(*asked)
        taken.set()
        await go.wait()
        return found

    stopped = AfterHooks(hooks, ear, clock)
    monkeypatch.setattr(hooks, "take", slow)
    running = asyncio.create_task(stopped.run())
    await taken.wait()
    running.cancel()
    await asyncio.wait([running])
    asyncio.get_running_loop().call_later(0.01, go.set)
    await stopped.close(5)
    monkeypatch.undo()
    assert ear.heard == []
    await deliver(AfterHooks(hooks, ear, clock))
    assert sorted(name for name, _ in ear.heard) == ["a", "b"]


@pytest.mark.every_database
async def test_what_fails_again_and_again_is_given_up_told_of_and_replayed(
    keep, born, happens, after, ear, clock, hooks, told, store
):
    """Twelve attempts, then it is dead and holds up nothing; replayed, it is told."""
    meters = await keep()
    poison, good = await born(meters, "poison", "good")
    await happens(poison)
    ear.fails["poison"] = MOST_ATTEMPTS
    for _ in range(MOST_ATTEMPTS):
        await deliver(after, 2)
        await happens(good)
        clock.now += 600_000
    await deliver(after, 2)
    await store.writer.settled()
    [dead] = await hooks.dead([meters.id], 10)
    assert (dead.attempts, dead.reason) == (MOST_ATTEMPTS, "it answered with status 500")
    assert [name for name, _ in ear.heard].count("poison") == 1, "the later one was told"
    assert await told(EventKind.HOOK_DEAD) == [(Outcome.WARNING, "", poison.id)]
    before = len(ear.heard)
    assert await hooks.replay_dead(meters.id, clock.now) == 1
    await deliver(after)
    assert ear.heard[before:] == [("poison", dead.seq)]
    assert await backlog(hooks, meters) == (0, 0)


async def test_a_hook_that_is_down_is_left_alone_and_loses_nothing(
    keep, born, after, ear, clock, hooks
):
    """One call a time while it is down, however much waits; all is told when it is back."""
    meters = await keep()
    await born(meters, *(f"d{n}" for n in range(30)))
    ear.down = True
    calls = 0
    original = ear.tell

    async def counted(*args: Any, **more: Any) -> HookTrouble | None:
        nonlocal calls
        calls += 1
        return await original(*args, **more)

    ear.tell = counted  # type: ignore[method-assign]
    await deliver(after, 5)
    first = calls
    assert first == 16, "the calls that were under way when it failed"
    await deliver(after, 5)
    assert calls == first
    clock.now += 10_000
    await deliver(after, 5)
    assert calls == first + 1
    ear.down = False
    clock.now += 20_000
    await deliver(after, 9)
    assert len({name for name, _ in ear.heard}) == 30
    assert await backlog(hooks, meters) == (0, 0)


@pytest.mark.every_database
async def test_two_processes_share_the_work(stores, event, newcomer, clock, monkeypatch):
    """Each event is told by one of them, and those of a device in order."""
    one, other = stores
    profile = DeviceProfile(id=0, name="meters", policy=Policy(after=RULE))
    new = NewProfile(profile=profile, key=None, secret=None, spare=None)
    meters = await SqlRegistrar(one).save_profile(new, event(EventKind.PROFILE_CREATE))
    for number in range(12):
        token = AccessToken(Secret(f"token-{number:04}"))
        made = await one.create_device(newcomer(meters, f"d{number}", credentials=token))
        await other.record(event(device_id=made.device.id, subject=f"d{number}"))
    await other.writer.settled()
    monkeypatch.setattr("gateway.core.after_hooks.MOST_AT_ONCE", 4)
    ears, heard = [Ear(), Ear()], list[tuple[str, int]]()
    for ear in ears:
        ear.heard = heard
    workers = [
        AfterHooks(SqlHooks(store), ear, clock) for store, ear in zip(stores, ears, strict=True)
    ]
    for _ in range(8):
        # Both look at the same moment, and neither is done before both have taken their share.
        for ear in ears:
            ear.hold = asyncio.Event()
        await asyncio.gather(*(worker.look() for worker in workers))
        for ear in ears:
            ear.hold.set()
        await asyncio.gather(*(worker.settle() for worker in workers))
    assert len(heard) == len(set(heard)) == 24
    for number in range(12):
        first, second = (seq for name, seq in heard if name == f"d{number}")
        assert first < second
    assert all(ear.ids for ear in ears), "one did all"


@pytest.mark.every_database
async def test_events_that_were_told_are_told_again_on_demand(
    keep, born, happens, after, ear, clock, hooks
):
    """One by its number, or all since a time; never one that the hook did not ask for."""
    meters = await keep()
    [a] = await born(meters, "a")
    clock.now += 60_000
    since = clock.now
    await happens(a)
    await happens(a, kind=EventKind.DEVICE_LOGIN)
    await deliver(after, 3)
    (_, birth), (_, change) = ear.heard
    seen: list[int] = []
    assert await hooks.replay_since(meters.id, since, clock.now, 100, seen.append) == 1
    await deliver(after)
    assert ear.heard[2:] == [("a", change)]
    assert seen
    assert await hooks.replay_one(meters.id, birth, clock.now) == 1
    await deliver(after)
    assert ear.heard[3:] == [("a", birth)]
    assert await hooks.replay_one(meters.id, change + 1, clock.now) == 0
    assert await hooks.replay_one(meters.id, 10_000, clock.now) == 0


async def test_deliveries_of_a_profile_are_bounded(
    keep, born, happens, hooks, ear, clock, monkeypatch
):
    """Dead ones go first, the oldest; when all of them wait, events wait in the log instead."""
    monkeypatch.setattr("gateway.core.after_hooks.MOST_KEPT", 5)
    counts: Any = Counter()
    after = AfterHooks(hooks, ear, clock, outcomes=counts)
    ear.down = True
    meters = await keep()
    [a] = await born(meters, "a")
    for _ in range(9):
        await happens(a)
    await deliver(after)
    waiting = (await backlog(hooks, meters))[0]
    assert waiting == 10, "what one step read"
    for _ in range(9):
        await happens(a)
    clock.now += 10_000
    await deliver(after)
    assert (await backlog(hooks, meters))[0] == 10
    driver = hooks._driver
    await driver.transact(lambda tx: tx.fetch("drop_deliveries", meters.id, "waiting", 4))
    await _bury_all(hooks, meters, clock.now)
    clock.now += 10_000
    await after.look()
    dead = await hooks.dead([meters.id], 100)
    assert counts["after", "dropped"] == 1
    assert len(dead) == 5
    ear.down = False
    assert await hooks.drop(meters.id, "dead", 100) == 5
    clock.now += 20_000
    await deliver(after, 30)
    assert len(ear.heard) == 9


async def _bury_all(hooks: SqlHooks, profile: DeviceProfile, now: int) -> None:
    """Each is given up, as if it had failed for the last time."""
    gone = Event(kind=EventKind.HOOK_DEAD, at=now, peer=Peer(Wire.SHELL, "t"))
    far = now + 10**9
    while taken := await hooks.take(profile.id, far, far + 1, 100):
        for one in taken:
            await hooks.bury(one, "x", gone)


async def test_a_hook_that_is_taken_away_and_a_profile_that_is_removed(
    keep, born, hooks, registrar, event, after, ear
):
    """Nothing is told any more; what waited is kept for a while, for a hook that is named anew, and
    goes with the profile."""
    meters = await keep()
    [a] = await born(meters, "a")
    ear.down = True
    await deliver(after)
    await keep(rule=None)
    assert await hooks.followed() == ()
    assert await backlog(hooks, meters) == (1, 0)
    removed = event(EventKind.DEVICE_REMOVE, device_id=a.id, subject="a")
    await registrar.remove_device(a.id, removed)
    await registrar.remove_profile(meters.id, event(EventKind.PROFILE_REMOVE))
    assert await hooks.backlog() == {}


async def test_devices_that_were_removed_are_forgotten_in_time(
    keep, born, hooks, registrar, event, clock, after, store
):
    """Whose they were is known for a week, and only of profiles with a hook."""
    meters, plain = await keep(), await keep("plain", None)
    for device in [*await born(meters, "a"), *await born(plain, "b")]:
        removed = event(EventKind.DEVICE_REMOVE, device_id=device.id, subject=device.name)
        await registrar.remove_device(device.id, removed)
    count = "SELECT count(*) FROM hook_removed"
    assert await store.driver.read(count) == [(1,)]
    clock.now += 8 * 86_400_000
    await deliver(after)
    assert await store.driver.read(count) == [(0,)]


def test_the_wait_grows_to_ten_minutes_and_is_spread() -> None:
    waits = [backoff_ms(attempts, 1.0) for attempts in range(1, MOST_ATTEMPTS + 1)]
    assert waits[:4] == [1000, 2000, 4000, 8000]
    assert waits[-1] == 600_000
    assert backoff_ms(3, 0.0) == 2000
    assert backoff_ms(10_000, 0.0) == 300_000


def test_a_delivery_is_known_by_profile_and_event() -> None:
    one = Followed(profile_id=3, uuid="u", name="m", rule=RULE)
    assert delivery_id(one, 7) == "u-7"


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("hook_due", "hook_delivery_due (profile_id=? AND state=? AND next_at<?)"),
        ("take_hook_deliveries", "hook_delivery_due (profile_id=? AND state=? AND next_at<?)"),
        ("take_hook_deliveries", "hook_delivery_of_device (device_id=? AND state=? AND"),
        ("put_back_later", "hook_delivery_of_device (device_id=? AND state=? AND"),
        ("hook_events", "e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    ],
)
def test_deliveries_and_events_are_found_by_an_index(schema, name, index):
    """However many there are."""
    statement = QUERIES[name]
    places = [1] * len({part[0] for part in statement.split("?")[1:]})
    plan = [row[3] for row in schema.execute(f"EXPLAIN QUERY PLAN {statement}", places)]
    assert any(index in step for step in plan), plan
