"""`kill -9` amid what gates keep: hooks that are told, words of operators, answers to repeat."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from beside import beside, born, until
from house import Gatehouse, NewGatehouse
from operators import root_operator
from wires import GET, coap, dotted, http, mqtt, provision

from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.after_hooks import MOST_ATTEMPTS
from gateway.core.approvals import ApprovalQuery
from gateway.core.model import (
    DeviceProfile,
    FleetTicket,
    Peer,
    Wire,
)
from gateway.opening import open_registry, open_store
from gateway.services import open_services
from gateway.settings import StoreSettings
from gateway.store.sql_hooks import SqlHooks
from gateway.store.sql_store import SqlStore

SHELL = Peer(Wire.SHELL, "ann", actor="ann")
OPERATOR = root_operator("ann")
NONCE = "nonce-of-the-first-device"
OTHER = "nonce-of-another-device"


def furnish(house: Gatehouse, name: str, settings: str) -> None:
    """One more profile for new devices; before the start."""
    key, secret = house.pairs[name] = f"{name}-key-0001", f"{name}-secret-0001"
    (house.folder / "profiles" / f"{name}.toml").write_text(
        'provision_type = "ALLOW_CREATE_NEW_DEVICES"\n'
        f'provision_key = "{key}"\nprovision_secret = "{secret}"\n{settings}'
    )


# ── after-hooks ───────────────────────────────────────────────────────────────────────────────

HOOKED = """
[hooks.after]
url = "{url}"
secret_env = "BIRTH_HOOK_SECRET"
events = ["device:provision", "device:attributes"]
"""
DEVICES = 12
CHANGES = 3
STUCK = "stuck"
"""Its birth is told in vain, until `Ear.mended`."""


class Ear(ThreadingHTTPServer):
    """A web service that hears what happens; `taken` is what it said yes to, as it came.

    After the first few it hears, and half of that it takes, but answers nothing until `killed`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hearing)
        self.taken: list[dict[str, Any]] = []
        self.held: list[int] = []
        self.killed = threading.Event()
        self.mended = False

    def takes(self, told: dict[str, Any]) -> bool:
        birth = told["event"] == "device:provision"
        return self.mended or not birth or told["deviceName"] != STUCK

    def seqs(self) -> set[int]:
        return {told["seq"] for told in self.taken}

    def handle_error(self, *_: object) -> None:
        """Whoever was killed does not hear the answer."""


class _Hearing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Ear

    def do_POST(self) -> None:
        ear, told = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        takes = ear.takes(told)
        if takes and len(ear.taken) >= DEVICES // 2 and not ear.killed.is_set():
            ear.held.append(told["seq"])
            if len(ear.held) % 2:
                ear.taken.append(told)
            ear.killed.wait(30)
            raise ConnectionAbortedError
        if takes:
            ear.taken.append(told)
        self.send_response(200 if takes else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def ear() -> Iterator[Ear]:
    with Ear() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.killed.set()
        server.shutdown()
        thread.join()


class Hooked:
    """Devices whose births and changes are told to `ear`. Over two kills each is told at least
    once, and what was given up stays so until it is replayed."""

    def __init__(self, house: Gatehouse, ear: Ear) -> None:
        self.house = house
        self.ear = ear
        self.events: dict[int, str] = {}
        self.birth = 0
        furnish(house, "hooked", HOOKED.format(url=f"http://127.0.0.1:{ear.server_port}/"))

    async def begin(self) -> None:
        """Until some of it was told, and is not answered."""
        async with beside(self.house) as people:

            async def live(name: str) -> None:
                await born(self.house, name, profile="hooked")
                for number in range(CHANGES):
                    await people.share(name, n=number)

            await live(STUCK)
            await asyncio.gather(*(live(f"h{number}") for number in range(1, DEVICES)))
        await until(lambda: len(self.ear.held) >= 4, 15, "too little was told")

    def after_the_kill(self) -> None:
        """Time passes: what was taken is free, and all that waits is due, one for the last time."""
        self.ear.killed.set()
        kinds = "kind IN ('device:provision', 'device:attributes')"
        whose = f"subject = '{STUCK}' OR subject LIKE 'h%'"
        rows = self.house.rows(f"SELECT seq, subject FROM event WHERE {kinds} AND ({whose})")
        self.events = dict(rows)
        assert len(self.events) == DEVICES * (1 + CHANGES)
        self.birth = min(seq for seq, name in rows if name == STUCK)
        assert STUCK not in {told["deviceName"] for told in self.ear.taken}, "told out of order"
        self.before = len(self.ear.taken)
        change = "UPDATE hook_delivery SET taken_until = 0, next_at = 0"
        with closing(sqlite3.connect(self.house.database)) as store, store:
            store.execute(change)
            last = f"{change}, attempts = ? WHERE event_seq = ? RETURNING state"
            found = store.execute(last, (MOST_ATTEMPTS - 1, self.birth))
            assert found.fetchall() == [("waiting",)]

    async def go_on(self) -> None:
        others = self.events.keys() - {self.birth}
        await until(lambda: others <= self.ear.seqs(), 15, "something was lost to the kill")
        again = {told["seq"] for told in self.ear.taken[self.before :]}
        assert again >= set(self.ear.held)
        await until(lambda: self._dead() == [(self.birth,)], 5, "it is not given up")

    def _dead(self) -> list[tuple[Any, ...]]:
        return self.house.rows("SELECT event_seq FROM hook_delivery WHERE state = 'dead'")

    async def end(self, hooks: SqlHooks, profile_id: int) -> None:
        assert self._dead() == [(self.birth,)]
        self.ear.mended = True
        assert await hooks.replay_dead(profile_id, now_ms()) == 1
        await until(lambda: self.birth in self.ear.seqs(), 10, "it is not replayed")
        each_is_told_alike_and_in_order(self.ear, self.birth, self.events)


def each_is_told_alike_and_in_order(ear: Ear, replayed: int, names: dict[int, str]) -> None:
    """Once more, after a kill, is allowed; earlier than what was before is not."""
    bodies: dict[int, dict[str, Any]] = {}
    by_device: defaultdict[str, list[int]] = defaultdict(list)
    for told in ear.taken:
        seq, name = told["seq"], told["deviceName"]
        assert name == names[seq]
        assert bodies.setdefault(seq, told) == told
        if seq != replayed:
            by_device[name].append(seq)
    assert bodies.keys() == names.keys()
    for name, seqs in by_device.items():
        assert seqs == sorted(seqs), f"{name} was told of in another order"


# ── words of operators, and answers to repeat ─────────────────────────────────────────────────

GATED = """
[admission]
approval = true
"""


class Office:
    """Operators with the store of a gateway, in a process beside it."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.services = open_services(store)
        self.services.close()  # nobody logs in
        self.registry = open_registry(store, SHELL)

    async def profile(self, name: str) -> DeviceProfile:
        found = await self.registry.profile(name)
        assert found is not None
        return found

    async def secret(self, profile: str) -> FleetTicket:
        whose = await self.profile(profile)
        (ticket,) = await self.services.secrets.listed(OPERATOR, profile=whose)
        return ticket

    async def waiting(self) -> dict[str, int]:
        page = await self.services.approvals.page(OPERATOR, ApprovalQuery())
        return {one.name: one.id for one in page.data}


@asynccontextmanager
async def office(house: Gatehouse) -> AsyncIterator[Office]:
    config = Config(store=StoreSettings(url=f"sqlite:{house.database}"))
    async with open_store(config, {}) as store:
        yield Office(store)


def request(house: Gatehouse, name: str, profile: str, nonce: str = NONCE) -> bytes:
    return house.request(name, profile)[:-1] + f',"nonce":"{nonce}"}}'.encode()


async def answer(house: Gatehouse, name: str, profile: str, nonce: str = NONCE) -> bytes:
    """Over HTTP, whatever its status."""
    async with http(house.ports.http) as web:
        body = request(house, name, profile, nonce)
        return (await web.ask("POST", "/api/v1/provision", body)).body


async def everywhere(house: Gatehouse, name: str, profile: str) -> set[bytes]:
    """The answers to a request that all three wires are asked at once."""
    body = request(house, name, profile)
    wires = ("http", "mqtt5", "coap")
    return set(await asyncio.gather(*(provision(house.ports, wire, body) for wire in wires)))


def token_in(answer: bytes) -> str:
    told = json.loads(answer)
    assert told["status"] == "SUCCESS", told
    return str(told["credentialsValue"])


async def lets_in(house: Gatehouse, token: str) -> list[bool]:
    """Whether each wire knows a token; asking is using it."""
    path = f"/api/v1/{token}/attributes"
    async with http(house.ports.http) as web:
        known = [(await web.ask("GET", f"{path}?clientKeys=x")).status == 200]
    async with mqtt(house.ports.mqtt) as session:
        known.append(await session.connect("c", token) == 0)
    async with coap(house.ports.coap) as device:
        known.append(dotted(await device.ask(GET, path, query=("clientKeys=x",))) != "4.01")
    return known


class Words:
    """Devices that wait for an operator, are suspended, or ask again. A yes is one birth, a no a
    refusal, whoever waits waits on; a quarantine stays until it is released; an answer is repeated
    until its credential was used."""

    def __init__(self, house: Gatehouse) -> None:
        self.house = house
        furnish(house, "gated", GATED)
        furnish(house, "suspect", "")

    async def begin(self, people: Office) -> None:
        house = self.house
        for name in ("yes", "no", "later"):
            assert b'"PENDING"' in await answer(house, name, "gated")
        self.told = {name: await answer(house, name, "create") for name in ("unused", "used")}
        suspects = [await answer(house, name, "suspect") for name in ("q-1", "q-2")]
        self.suspects = [token_in(one) for one in suspects]
        assert await lets_in(house, self.suspects[0]) == [True] * 3
        numbers = await people.waiting()
        suspect = await people.secret("suspect")
        assert await people.services.secrets.quarantine(OPERATOR, suspect) == 2
        await people.services.approvals.deny(OPERATOR, [numbers["no"]])
        await people.services.approvals.approve(OPERATOR, [numbers["yes"]])
        async with http(house.ports.http) as web:
            path = f"/api/v1/{token_in(self.told['used'])}/attributes?clientKeys=x"
            assert (await web.ask("GET", path)).status == 200

    async def go_on(self, people: Office) -> None:
        house = self.house
        (yes,) = await everywhere(house, "yes", "gated")
        assert await lets_in(house, token_in(yes)) == [True] * 3
        assert b'"FAILURE"' in await answer(house, "yes", "gated", OTHER)
        assert b'"FAILURE"' in await answer(house, "no", "gated")
        assert b'"PENDING"' in await answer(house, "later", "gated")
        assert await everywhere(house, "unused", "create") == {self.told["unused"]}
        assert b'"FAILURE"' in await answer(house, "used", "create")
        for name in ("q-2", "q-3"):
            assert b'"SUCCESS"' not in await answer(house, name, "suspect")
        for token in self.suspects:
            assert await lets_in(house, token) == [False] * 3
        numbers = await people.waiting()
        assert numbers.keys() == {"no", "later"}
        await people.services.secrets.release(OPERATOR, await people.secret("suspect"))
        await people.services.approvals.approve(OPERATOR, [numbers["later"]])

    async def end(self) -> None:
        assert len(await everywhere(self.house, "later", "gated")) == 1
        for token in self.suspects:
            assert await lets_in(self.house, token) == [True] * 3
        theirs = ("later", "no", "q-1", "q-2", "q-3", "unused", "used", "yes")
        born_once = [(one, 1) for one in theirs if one not in ("no", "q-3")]
        counted = (
            "SELECT name, count(*) FROM device JOIN credentials ON device_id = device.id"
            f" WHERE name IN {theirs} GROUP BY name ORDER BY name"
        )
        assert self.house.rows(counted) == born_once


async def test_what_gates_keep_survives_kill_9(new_gatehouse: NewGatehouse, ear: Ear) -> None:
    """Right after each word of an operator, and while hooks are told: see `Hooked` and `Words`."""
    house = new_gatehouse(BIRTH_HOOK_SECRET="a-secret-of-both-sides")
    hooked, words = Hooked(house, ear), Words(house)
    house.start()
    await hooked.begin()
    async with office(house) as people:
        await words.begin(people)
        house.kill()
    hooked.after_the_kill()

    house.start()
    await hooked.go_on()
    async with office(house) as people:
        await words.go_on(people)
        house.kill()

    house.start()
    await words.end()
    async with office(house) as people:
        profile = await people.profile("hooked")
        await hooked.end(SqlHooks(people.store), profile.id)
    assert house.rows("PRAGMA integrity_check") == [("ok",)]
