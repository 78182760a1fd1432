"""Rates of provisioning, and waits that differ by device."""

from __future__ import annotations

import pytest

from gateway.core.limits import Limits, limits_of, parse_rate, provisions_of
from gateway.core.model import DeviceProfile, FleetTicket, Secret
from gateway.core.pacing import Pacer, Paces

NOW = 1_800_000_000_000
ONE_IN_TEN = parse_rate("1:10")


def ticket(number: int = 1, profile: int = 1, organisation: int = 1, **limits: str) -> FleetTicket:
    kind = DeviceProfile(
        id=profile, name=f"p{profile}", organisation_id=organisation, limits=limits
    )
    return FleetTicket(id=number, profile=kind, key=Secret("k"), secret=Secret("s"))


def test_without_rates_nothing_is_counted() -> None:
    """Not even remembered; nor is it by limits that are about other things."""
    pacer = Pacer()
    assert not any(pacer.take(ticket(messages="1:1"), f"10.0.0.{n}", "n", NOW) for n in range(99))
    assert len(pacer) == 0


@pytest.mark.parametrize(
    ("whose", "same", "other"),
    [
        ("secret", (ticket(1, 1), "10.0.0.2"), (ticket(2, 1), "10.0.0.1")),
        ("profile", (ticket(2, 1), "10.0.0.2"), (ticket(1, 2), "10.0.0.1")),
        ("address", (ticket(2, 2), "10.0.0.1"), (ticket(1, 1), "10.0.0.2")),
        ("organisation", (ticket(2, 2, 1), "10.0.0.2"), (ticket(1, 1, 2), "10.0.0.1")),
    ],
)
def test_each_rate_holds_for_its_own(
    whose: str, same: tuple[FleetTicket, str], other: tuple[FleetTicket, str]
) -> None:
    """One request is taken, the next of the same party waits, another party's does not."""
    pacer = Pacer(Paces(**{whose: ONE_IN_TEN}))
    assert pacer.take(ticket(), "10.0.0.1", "a", NOW) == 0
    assert 10 <= pacer.take(*same, "b", NOW) <= 15
    assert pacer.take(*other, "c", NOW) == 0
    assert pacer.take(*same, "b", NOW + 15_000) == 0, "the wait that was told is enough"


def test_who_waits_takes_nothing_from_any_other_rate() -> None:
    """All of them are taken from, or none."""
    pacer = Pacer(Paces(address=ONE_IN_TEN, profile=parse_rate("2:10")))
    assert pacer.take(ticket(), "10.0.0.1", "a", NOW) == 0
    assert [pacer.take(ticket(), "10.0.0.1", "a", NOW) > 0 for _ in range(5)] == [True] * 5
    assert pacer.take(ticket(), "10.0.0.2", "b", NOW) == 0


def test_a_profile_may_have_rates_of_its_own_and_lift_those_for_all() -> None:
    """A changed profile counts by its new rates at once."""
    pacer = Pacer(Paces(secret=ONE_IN_TEN))
    free = ticket(provisions_per_secret="")
    assert [pacer.take(free, "10.0.0.1", "n", NOW) for _ in range(9)] == [0] * 9
    tight = ticket(1, 2, provisions="1:100", provisions_per_address="1:20")
    assert pacer.take(tight, "10.0.0.1", "n", NOW) == 0
    assert 100 <= pacer.take(tight, "10.0.0.1", "n", NOW) <= 150
    loose = ticket(1, 2, provisions="5:100", provisions_per_secret="")
    assert pacer.take(loose, "10.0.0.1", "n", NOW) == 0


def test_the_wait_is_the_devices_own_and_spread_over_half_as_long_again() -> None:
    """Always the same for a name, never shorter than it must be, never over +50 %."""
    pacer = Pacer(Paces(profile=parse_rate("1:1000")))
    pacer.take(ticket(), "10.0.0.1", "first", NOW)
    waits = [pacer.take(ticket(), "10.0.0.1", f"meter-{n}", NOW) for n in range(500)]
    assert waits == [pacer.take(ticket(), "10.0.0.1", f"meter-{n}", NOW) for n in range(500)]
    assert min(waits) >= 1000
    assert max(waits) <= 1500
    assert len(set(waits)) > 200
    nameless = [pacer.take(ticket(), "10.0.0.1", "", NOW) for _ in range(100)]
    assert len(set(nameless)) > 80


def test_the_table_is_bounded() -> None:
    """A flood of addresses is remembered as far as the bound."""
    pacer = Pacer(Paces(address=ONE_IN_TEN), most=50)
    for number in range(1000):
        pacer.take(ticket(), f"10.0.{number // 250}.{number % 250}", "n", NOW)
    assert len(pacer) <= 50


def test_a_profiles_rates_of_provisioning_are_none_of_its_devices_messages() -> None:
    """They stand in the same table, and each reader takes its own."""
    texts = {"messages": "1:1", "provisions": "2:60", "provisions_per_address": ""}
    assert limits_of(texts, Limits()) == Limits(messages=parse_rate("1:1"))
    assert provisions_of(texts) == {"profile": parse_rate("2:60"), "address": None}
    with pytest.raises(ValueError, match="provisions: "):
        provisions_of({"provisions": "often"})
    with pytest.raises(ValueError, match=r"there are .*provisions_per_secret"):
        limits_of({"provision": "1:1"}, Limits())
