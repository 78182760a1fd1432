"""Two gateways on one PostgreSQL: what is decided once is decided once, and what is said at one
counts at the other, whoever is killed in between."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from two_houses import (
    OPERATOR,
    SOON_S,
    Ear,
    Operators,
    Pair,
    asking,
    born,
    by,
    listening,
    operators,
    until,
)
from wires import DISCONNECT, Mqtt, http, knows, mqtt, provision

from gateway.core.admission_entries import Entry, EntryKind
from gateway.core.approvals import ApprovalQuery
from gateway.core.fleet_secret_store import Bounds
from gateway.core.model import (
    Admission,
    AttributesChange,
    AttributeScope,
    DeviceProfile,
    Reprovisioning,
    Secret,
)

pytestmark = pytest.mark.postgres

NONCE = "0123456789abcdef"
CODE = "7KPM-Q3XD-9RTW"


@pytest.fixture(scope="module")
def pair(postgres_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("two"), postgres_server)
    try:
        made.start()
        yield made
    finally:
        for one in made.both:
            one.kill()


async def test_a_retry_at_the_other_gets_the_same(pair: Pair) -> None:
    """Asked at both at once, over three wires each: one device, one credential, the same bytes;
    for a name, without one, and with a token of the device's own. One use anywhere ends it."""
    async with operators(pair) as people:
        await people.save("retry")
        before = await people.count("device")
        more = ({"nonce": NONCE}, {"name": None, "nonce": NONCE}, {"token": "the-device-s-own"})
        bodies = [asking("retry", **{"name": f"r-{n}", **one}) for n, one in enumerate(more)]
        answers = [await pair.ask(body, "http", "coap", "mqtt5") for body in bodies]
        assert [len(set(one)) for one in answers] == [1, 1, 1]
        assert [born(one) for one in answers] == [6, 6, 6]
        assert await people.count("device") == before + 3 == await people.count("credentials")
        assert born(await pair.ask(asking("retry", "r-0", nonce=NONCE[::-1]))) == 0
        token = json.loads(answers[0][0])["credentialsValue"]
        assert await knows(pair.b.ports, token)
        assert born(await pair.ask(bodies[0])) == 0


async def test_bounds_are_exact_over_both(pair: Pair) -> None:
    """A secret with five uses and fifty devices, a profile with room for six and twenty."""
    async with operators(pair) as people:
        profile = await people.save("bounded")
        five = Bounds(max_uses=5)
        ticket = await people.services.secrets.add(OPERATOR, profile, "five", bounds=five)
        assert born(await pair.ask_in_turn([by(ticket, f"u{n}") for n in range(50)])) == 5
        assert await people.services.secrets.count_borne(OPERATOR, ticket) == 5
        await people.save("capped", admission=Admission(max_devices=6))
        assert born(await pair.ask_in_turn([asking("capped", f"c{n}") for n in range(20)])) == 6


async def test_a_word_is_for_one(pair: Pair) -> None:
    """An operator's yes, a claim code, an armed device: of those that ask at both at once, with one
    name, one gets it; of two with nonces the one that came first."""
    async with operators(pair) as people:
        await people.save("gated", admission=Admission(approval=True))
        nonces: tuple[dict[str, str], ...] = ({}, {})
        for name, asked in (("any", nonces), ("own", ({"nonce": NONCE}, {"nonce": NONCE[::-1]}))):
            bodies = [asking("gated", name, **one) for one in asked]
            assert all(b"PENDING" in one for one in await _waiting(pair, bodies))
            [place] = (await people.services.approvals.page(OPERATOR, ApprovalQuery())).data
            assert (place.name, place.tries) == (name, 2 if asked is nonces else 1)
            await people.services.approvals.approve(OPERATOR, [place.id])
            assert born(await _waiting(pair, bodies)) == 1
        await people.save("again", reprovisioning=Reprovisioning.SAME_IDENTITY)
        await _token(pair, "again", "lost")
        known = await people.registry.device("lost")
        assert known is not None
        for number, shown in enumerate(({}, {"claimCode": CODE})):
            assert await people.registry.arm_device(known, 60_000, Secret(CODE) if shown else None)
            bodies = [asking("again", "lost", nonce=f"{number}-{n:016}", **shown) for n in range(4)]
            assert born(await pair.ask_in_turn(bodies)) == 1


async def _waiting(pair: Pair, bodies: list[bytes]) -> list[bytes]:
    """The answers over HTTP, whatever their status, the first at A and the second at B."""

    async def ask(port: int, body: bytes) -> bytes:
        async with http(port) as web:
            return (await web.ask("POST", "/api/v1/provision", body)).body

    ports = (one.ports.http for one in pair.both)
    return await asyncio.gather(*(ask(*one) for one in zip(ports, bodies, strict=True)))


async def test_a_new_credential_ends_the_old_one_at_both(pair: Pair) -> None:
    """Once it is used at A, at B the session with the older one is cut, and that is nobody's."""
    async with operators(pair) as people:
        await people.save("anew", reprovisioning=Reprovisioning.SAME_IDENTITY)
        old = await _token(pair, "anew", "comes-back")
        new = await _token(pair, "anew", "comes-back", oldCredential=old)
        async with mqtt(pair.b.ports.mqtt, 5) as session:
            assert await session.connect("c", old) == 0
            assert await knows(pair.a.ports, new)
            await _is_cut(session)
        await _is_nobodys(pair, old)
        assert await knows(pair.b.ports, new)


async def test_a_quarantine_reaches_what_the_other_serves(pair: Pair) -> None:
    """Sessions at both are cut, credentials and the secret refused; a release undoes it."""
    async with operators(pair) as people:
        profile = await people.save("leaked")
        [ticket] = await people.services.secrets.listed(OPERATOR, profile=profile)
        tokens = [await _token(pair, "leaked", name) for name in ("l-a", "l-b")]
        async with mqtt(pair.a.ports.mqtt, 5) as a, mqtt(pair.b.ports.mqtt, 5) as b:
            for session, token in zip((a, b), tokens, strict=True):
                assert await session.connect("c", token) == 0
            await people.services.secrets.quarantine(OPERATOR, ticket)
            assert born(await pair.ask(asking("leaked", "l-c"))) == 0
            await _is_cut(a)
            await _is_cut(b)
        await _is_nobodys(pair, *tokens)
        await people.services.secrets.release(OPERATOR, ticket)
        for token in tokens:
            for house in pair.both:
                assert await knows(house.ports, token)


async def test_what_people_change_counts_at_both_from_the_next_request_on(pair: Pair) -> None:
    """Secrets added, rotated and revoked; lists; a profile's patterns, networks, hours and cap."""
    async with operators(pair) as people:
        profile = await people.save("listed", admission=Admission(allow_list=True))
        names = [Entry(EntryKind.NAME, name) for name in ("x-a", "x-b", "y")]
        lists, denied = people.services.admission, names[2:]
        assert born(await pair.ask_in_turn([asking("listed", "x-a"), asking("listed", "x-b")])) == 0
        await lists.add(OPERATOR, profile, names, denied=False)
        assert born(await pair.ask_in_turn([asking("listed", "x-a"), asking("listed", "x-b")])) == 2
        # That there is a deny-list at all was looked for less than a second ago, at both.
        await lists.add(OPERATOR, profile, denied, denied=True)
        told = time.monotonic()
        await _secrets_change(pair, people, await people.save("turned"))
        for number, shut in enumerate(
            (
                Admission(allow=("other-*",)),
                Admission(networks=("10.0.0.0/8",)),
                Admission(closes_at=1),
                Admission(max_devices=1),
            )
        ):
            await people.save("turned", admission=shut)
            assert born(await pair.ask_in_turn(_two(number, "turned"))) == 0, shut
            await people.save("turned", admission=Admission(allow=("t-*",)))
            assert born(await pair.ask_in_turn(_two(number, "turned"))) == 2, shut
        await asyncio.sleep(told + 1 - time.monotonic())
        assert born(await pair.ask(asking("listed", "y"))) == 0


def _two(number: int, profile: str) -> list[bytes]:
    return [asking(profile, f"t-{number}-{letter}") for letter in "ab"]


async def _secrets_change(pair: Pair, people: Operators, profile: DeviceProfile) -> None:
    secrets = people.services.secrets
    ticket = await secrets.add(OPERATOR, profile, "b")
    assert born(await pair.ask_in_turn([by(ticket, "s-a"), by(ticket, "s-b")])) == 2
    newer = await secrets.rotate(OPERATOR, ticket, overlap_ms=0)
    assert born(await pair.ask(by(ticket, "s-c"))) == 0
    assert born(await pair.ask_in_turn([by(newer, "s-c"), by(newer, "s-d")])) == 2
    await secrets.revoke(OPERATOR, newer)
    assert born(await pair.ask(by(newer, "s-e"))) == 0


async def test_hooks_are_told_though_one_is_killed_in_the_middle(pair: Pair) -> None:
    """Each event at least once, those of a device in order. What was given up is replayed by whom
    there is. The one that was killed gives its answers again when it is back."""
    async with listening() as ear, operators(pair) as people:
        profile = await people.save("hooked", after=ear.rule)
        ear.slow_s = 0.05
        names = [f"h{number}" for number in range(8)]
        bodies = [asking("hooked", name, nonce=NONCE) for name in names]
        answers = await pair.ask_in_turn(bodies)
        assert born(answers) == len(names)
        for name in names:
            await _share(people, name)
        pair.b.kill()
        # As half a minute later: what it had in hand is for others.
        await pair.change("UPDATE hook_delivery SET taken_until = 0")
        await until(lambda: _all_told(people), "told", 45)
        first = list(dict.fromkeys(ear.heard))
        assert len(first) == 2 * len(names)
        for name in names:
            seqs = [seq for one, seq in first if one == name]
            assert seqs == sorted(seqs), name
        await _given_up(pair, people, ear, profile)
        pair.b.start()
        assert await pair.ask_in_turn(bodies[1:] + bodies[:1]) == answers[1:] + answers[:1]


async def _given_up(pair: Pair, people: Operators, ear: Ear, profile: DeviceProfile) -> None:
    """The last of its attempts fails, and it is told once somebody says so."""
    ear.status = 503
    await _share(people, "h0")
    hooks = people.services.hooks

    async def is_dead() -> bool:
        last = "UPDATE hook_delivery SET attempts = 11, next_at = 0 WHERE taken_until = 0"
        await pair.change(f"{last} AND state = 'waiting'")
        return await people.count("hook_delivery WHERE state = 'dead'") == 1

    await until(is_dead, "given up")
    assert await people.count("event WHERE kind = 'hook:dead'") == 1
    ear.status = 200
    assert await hooks.replay(OPERATOR, profile) == 1
    await until(lambda: _all_told(people), "replayed")
    assert [name for name, _ in ear.heard][-1] == "h0"


async def _share(people: Operators, name: str) -> None:
    known = await people.registry.device(name)
    assert known is not None
    change = AttributesChange({"k": 1}, ())
    assert await people.registry.change_attributes(known, AttributeScope.SHARED, change)


async def _all_told(people: Operators) -> bool:
    """Nothing is left, and nothing was not looked at."""
    left = await people.count("hook_delivery")
    place = "hook_place WHERE seq < (SELECT max(seq) FROM event WHERE kind LIKE 'device:%')"
    return not left and not await people.count(place)


async def _token(pair: Pair, profile: str, name: str, **more: Any) -> str:
    """Of a device that comes to A."""
    answer = json.loads(await provision(pair.a.ports, "http", asking(profile, name, **more)))
    token: str = answer["credentialsValue"]
    return token


async def _is_cut(session: Mqtt) -> None:
    packet = await session.next(SOON_S)
    assert packet is not None
    assert packet.kind == DISCONNECT


async def _is_nobodys(pair: Pair, *tokens: str) -> None:
    async def at_neither() -> bool:
        return not any([await knows(house.ports, one) for house in pair.both for one in tokens])

    await until(at_neither, "refused at both")
