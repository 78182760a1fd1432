"""Wrong secrets: who guesses is stopped, and no fleet is ever shut out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.guesses import (
    PEEK_MS,
    Guessed,
    Guesses,
    Leniency,
    Shut,
    Toll,
    Whom,
    origin_of,
)
from gateway.core.model import Peer, ProvisionKey, Secret, Wire
from gateway.core.networks import subnet_of

HOME, AWAY = "192.0.2.7", "198.51.100.9"
RULE = Leniency(free=3, more=4, longest_wait_s=4, shut_s=60, forget_s=600, most=1000)
SECOND = 1000


def pair(secret: object, key: str = "fleet-key") -> ProvisionKey:
    return ProvisionKey(Secret(key), Secret(f"secret-{secret}"))


RIGHT = pair("right")


class Gate:
    """Shows pairs to `Guesses` as the door does, with a clock that is turned by hand."""

    def __init__(self, rule: Leniency = RULE) -> None:
        self.guesses = Guesses(rule)
        self.now = 1_000_000
        self.shut: list[Shut] = []

    def show(self, proof: ProvisionKey, address: str = HOME, *, known: bool = True) -> int:
        """Seconds to wait; 0: it was served, or only found wrong. -1 of an open door for RIGHT."""
        toll = self.guesses.toll(address, proof, self.now)
        if toll.shut:
            return toll.wait_ms // SECOND
        if proof == RIGHT:
            self.guesses.right(address, proof, self.now)
            return -1
        guessed = self.guesses.wrong(address, proof, self.now, known=known)
        self.shut += guessed.shut
        return max(toll.wait_ms, guessed.wait_ms) // SECOND

    def guess(self, count: int, address: str = HOME, start: int = 0) -> list[int]:
        return [self.show(pair(start + number), address) for number in range(count)]


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_the_first_are_free_then_the_wait_doubles_and_then_the_door_is_shut(gate: Gate) -> None:
    """Up to the longest wait; the door is shut once, and told once."""
    assert gate.guess(7) == [0, 0, 0, 1, 2, 4, 60]
    whom = (Whom.PLACE, Whom.ADDRESS, Whom.KEY)
    assert gate.shut == [Shut(one, 7, 60) for one in whom]
    assert gate.guess(50, start=100) == [60] * 50
    assert len(gate.shut) == 3
    assert gate.show(RIGHT) == 60, "a guesser is not told that it is right"


def test_a_guesser_that_waits_each_time_is_stopped_all_the_same(gate: Gate) -> None:
    """Over an hour with waits obeyed, it has a bounded number of tries."""
    tried = 0
    until = gate.now + 3600 * SECOND
    while gate.now < until:
        wait_s = gate.show(pair(tried))
        tried += 1
        gate.now += max(wait_s, 1) * SECOND
    assert tried <= 4 + 4 * (3600 // 60 + 1)
    assert sum(one.whom is Whom.ADDRESS for one in gate.shut) >= 40


def test_after_the_door_was_shut_the_waits_begin_anew(gate: Gate) -> None:
    """So that a good device behind the same address has its turn."""
    gate.guess(7)
    gate.now += 60 * SECOND
    assert gate.show(RIGHT) == -1
    assert gate.show(pair("x")) == 0, "it is known there by now"


def test_a_right_one_in_a_wait_is_served(gate: Gate) -> None:
    """A wait is told to what is wrong; who does not keep it is shut out all the sooner."""
    assert gate.guess(5)[-1] == 2
    assert gate.show(RIGHT) == -1
    assert gate.guess(5, start=50) == [0] * 5, "who knows it need not guess"


def test_the_same_wrong_one_is_answered_as_ever_however_often(gate: Gate) -> None:
    """A broken device tries for ever, and is no guesser: ThingsBoard would not tell it to wait."""
    assert [gate.show(pair("old")) for _ in range(500)] == [0] * 500
    assert gate.shut == []
    assert gate.show(RIGHT) == -1


def test_a_wrong_one_that_was_made_right_is_served_at_once(gate: Gate) -> None:
    """Say a profile file was changed, and its device was before it."""
    for _ in range(50):
        assert gate.guesses.wrong(HOME, RIGHT, gate.now, known=True) == Guessed()
    assert gate.show(RIGHT) == -1


def test_a_fleet_whose_address_a_guesser_shares_is_let_in_again(gate: Gate) -> None:
    """While the door is shut one request is looked at from time to time, whoever's it is: once it
    was a right one, the fleet does not wait any more. To the guesser it is next to nothing."""
    gate.guess(7)
    served_after, shown = 0, 0
    for second in range(59):
        for number in range(3):
            shown += gate.show(pair(f"more-{second}-{number}")) == 0
        gate.now += SECOND
        if second * SECOND > 2 * PEEK_MS and gate.show(RIGHT) == -1:
            served_after = second
            break
    assert 0 < served_after <= 3 * PEEK_MS // SECOND
    assert shown == 0, "what is wrong in a look is told to wait, too"
    assert [gate.show(RIGHT) for _ in range(100)] == [-1] * 100


def test_while_the_door_is_shut_hardly_anything_is_looked_at(gate: Gate) -> None:
    """However much is shown."""
    gate.guess(7)
    looked = 0
    for number in range(590):
        toll = gate.guesses.toll(HOME, pair(f"more-{number}"), gate.now)
        looked += not toll.shut
        gate.now += SECOND // 10
    assert looked <= 60 * SECOND // PEEK_MS


def test_guessing_at_one_key_concerns_no_other_at_that_address(gate: Gate) -> None:
    """Two fleets live behind one NAT: a guesser at the one's secret keeps none of the other out."""
    for number in range(50):
        gate.show(pair(number, "other-key"))
        gate.show(pair(number, f"made-up-{number}"), known=False)
    assert gate.show(RIGHT) == -1


def test_who_forges_the_address_of_datagrams_shuts_out_nobody_over_tcp(gate: Gate) -> None:
    """What came in the open over UDP is counted apart."""
    forged, real = (origin_of(Peer(wire, f"{HOME}:4711")) for wire in (Wire.COAP, Wire.MQTT))
    assert forged != real == origin_of(Peer(Wire.COAPS, f"{HOME}:4712"))
    gate.guess(50, forged)
    assert gate.show(RIGHT, real) == -1
    assert gate.show(pair("wrong"), real) == 0
    assert gate.show(pair("wrong again"), forged) == 0, "a right one came from there"


def test_a_dozen_wrong_ones_of_each_sort_mixed_with_right_ones_never_wait() -> None:
    """As somebody who tries a new gateway out does it, from one address, with the defaults."""
    guesses = Guesses()
    for number in range(12):
        for key, known in (("fleet-key", True), (f"made-up-{number}", False)):
            proof = pair(number, key)
            assert guesses.toll(HOME, proof, number) == Toll()
            assert guesses.wrong(HOME, proof, number, known=known) == Guessed()
        if number > 2:
            guesses.right(HOME, RIGHT, number)


def test_where_right_ones_come_from_nobody_is_shut_out_and_it_is_told(gate: Gate) -> None:
    """Thousands behind one address, of which some are broken each in its own way."""
    assert gate.show(RIGHT) == -1
    assert gate.guess(500) == [0] * 500
    assert gate.show(RIGHT) == -1
    told = [one for one in gate.shut if one.whom is Whom.NOBODY]
    assert told == [Shut(Whom.NOBODY, 7, 60)]


def test_a_right_one_is_no_pass_for_other_keys(gate: Gate) -> None:
    """Who owns one device of a fleet may not guess at another fleet's secret."""
    assert gate.show(RIGHT) == -1
    waits = [gate.show(pair(number, "other-key")) for number in range(7)]
    assert waits == [0, 0, 0, 1, 2, 4, 60]
    assert gate.show(RIGHT) == -1


def test_a_botnet_has_a_few_guesses_for_each_address(gate: Gate) -> None:
    """The key is counted from wherever; those who showed hardly anything wrong never wait for it:
    not a fleet with a broken device, either."""
    addresses = [f"10.0.{number // 250}.{number % 250}" for number in range(100)]
    for turn in range(3):
        for number, address in enumerate(addresses):
            assert gate.show(pair(f"{turn}-{number}"), address) == 0
    assert {one.whom for one in gate.shut} == {Whom.KEY}
    assert [gate.show(pair(f"fourth-{one}"), one) for one in addresses] == [60] * 100
    for number in range(200):
        assert gate.show(pair("of last year"), f"10.9.0.{number}") == 0
        assert gate.show(RIGHT, f"10.9.0.{number}") == -1


def test_one_old_secret_in_a_thousand_places_is_one_wrong_one(gate: Gate) -> None:
    """After a rotation: devices with last year's secret do not block their key."""
    for number in range(1000):
        assert gate.show(pair("of last year"), f"10.1.{number // 250}.{number % 250}") == 0
    assert gate.shut == []


@pytest.mark.parametrize("known", [True, False])
def test_waits_do_not_tell_which_keys_there_are(gate: Gate, *, known: bool) -> None:
    """Keys that exist and keys that do not lead to the same waits, from one address or many."""
    waits = [gate.show(pair(number), known=known) for number in range(9)]
    assert waits == [0, 0, 0, 1, 2, 4, 60, 60, 60]
    away = [gate.show(pair(f"away-{number}"), AWAY, known=known) for number in range(4)]
    assert away == [0, 0, 0, 60], "several were wrong, and then it waits"


def test_inventing_keys_makes_nothing_forgotten_about_those_there_are(gate: Gate) -> None:
    """They are remembered apart."""
    gate.guess(7)
    for number in range(5000):
        gate.show(
            pair(number, f"made-up-{number}"),
            f"10.{number // 65536}.{number // 256}.1",
            known=False,
        )
    assert [gate.show(pair(number), AWAY) for number in range(90, 94)] == [0, 0, 0, 60]
    assert gate.show(RIGHT) == 60


@pytest.mark.parametrize("sources", [1, 50_000])
def test_a_fleet_that_powers_up_at_once_never_waits(sources: int) -> None:
    """50,000 devices with the right secret, from one address and from as many as there are."""
    guesses = Guesses()
    free = Toll()
    for number in range(50_000):
        index = number % sources
        address = f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}"
        assert guesses.toll(address, RIGHT, number // 5) == free
        guesses.right(address, RIGHT, number // 5)
    assert guesses.remembered() == 2 * sources


@pytest.mark.parametrize("kinds", [1, 8])
def test_a_fleet_with_broken_devices_behind_one_address_is_all_served(kinds: int) -> None:
    """Of 50,000 every tenth has a wrong secret, of few kinds, and asks again and again: not one of
    the others ever waits, whoever was first."""
    guesses, rolled = Guesses(), random.Random(7)
    devices = [pair(n % kinds) if n % 10 == 0 else RIGHT for n in range(50_000)]
    rolled.shuffle(devices)
    for now, proof in enumerate([*(pair(n % kinds) for n in range(200)), *devices]):
        toll = guesses.toll(HOME, proof, now)
        if proof is RIGHT:
            assert toll == Toll()
            guesses.right(HOME, proof, now)
        elif not toll.shut:
            guesses.wrong(HOME, proof, now, known=True)


def test_what_was_wrong_is_forgotten_in_time(gate: Gate) -> None:
    """And so is what was right."""
    gate.show(RIGHT)
    gate.guess(7, AWAY)
    gate.now += (RULE.forget_s + 61) * SECOND
    assert gate.guess(4, AWAY, start=50) == [0, 0, 0, 1]
    gate.shut.clear()
    assert gate.guess(4, HOME, start=90)[-1] >= 1, "the right one there is forgotten, too"


def test_a_clock_that_was_set_back_shuts_nobody_out_for_longer(gate: Gate) -> None:
    gate.guess(7)
    gate.now -= 10**9
    assert gate.show(pair("x")) <= RULE.shut_s


def test_the_tables_are_bounded() -> None:
    """A flood from everywhere is remembered as far as the bound, in each of eleven tables."""
    gate = Gate(Leniency(most=100))
    for number in range(3000):
        away = f"10.0.{number // 250}.{number % 250}"
        gate.show(pair(number, f"key-{number}"), away, known=bool(number % 2))
        gate.show(RIGHT, f"10.1.{number // 250}.{number % 250}")
    assert gate.guesses.remembered() <= 11 * 100


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", subnet_of("2001:db8:1:2::1")),
        ("profiles", "profiles"),
        ("no:address", "no:address"),
    ],
)
def test_an_address_of_ipv6_counts_with_its_network(address: str, origin: str) -> None:
    """Whoever has one has as many as it likes of the same /64."""
    assert subnet_of(address) == origin
    assert subnet_of("2001:db8:1:2::1") != subnet_of("2001:db8:1:3::1")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 12), st.booleans(), st.integers(0, 30 * SECOND)
        ),
        max_size=120,
    )
)
def test_whatever_is_shown_nobody_who_showed_nothing_wrong_waits(
    shown: list[tuple[int, int, bool, int]],
) -> None:
    """And no wait is longer than the longest there is."""
    gate = Gate()
    for place, secret, known, later in shown:
        wait_s = gate.show(pair(secret), f"10.0.0.{place}", known=known)
        assert 0 <= wait_s <= max(RULE.shut_s, RULE.longest_wait_s)
        assert gate.show(RIGHT, "10.0.1.1") == -1
        gate.now += later


def test_nothing_that_was_shown_is_kept_in_words() -> None:
    """Wrong secrets are often right ones of elsewhere."""
    guesses = Guesses()
    assert guesses.wrong(HOME, pair("hush"), 1, known=True) == Guessed()
    tables = [one._known for one in (guesses._known.pairs, guesses._known.guessed)]
    assert "hush" not in repr(tables)
    assert "hush" not in repr(vars(guesses))
