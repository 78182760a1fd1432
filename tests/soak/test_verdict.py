"""The judgement of a soak: what it must notice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from verdict import FEWEST_SAMPLES, TOLERATED_KIB, Ledger, Memory, Tally, Verdict, judge_memory


def found(**more: Any) -> Verdict:
    """The verdict of a soak in which all went well, but for `more`."""
    well = {
        "acknowledged": 1,
        "lost": [],
        "memory": Memory(judged=False),
        "wrong": Counter(),
        "complaints": [],
    }
    return Verdict(**{**well, **more})


def kept(ledger: Ledger, *numbers: int) -> list[tuple[int, object]]:
    return [(ledger.base_ts + number, number) for number in numbers]


@pytest.fixture
def ledger() -> Ledger:
    """Four readings of one device, of which the third was not acknowledged."""
    ledger = Ledger(1_790_000_000_000)
    for number in range(4):
        assert ledger.take("meter") == number
        if number != 2:
            ledger.acknowledge("meter", number)
    return ledger


def test_a_lost_reading_is_noticed(ledger: Ledger) -> None:
    """An acknowledged reading that is not in the store is lost, and the soak fails."""
    lost = ledger.lost("meter", kept(ledger, 0, 3))

    assert lost == [1]
    assert found(lost=["meter 1"]).faults == ["1 acknowledged readings lost: meter 1"]


def test_a_reading_with_another_value_is_lost(ledger: Ledger) -> None:
    """A reading is in the store only if its value is the one that was sent."""
    stored = [*kept(ledger, 0, 3), (ledger.base_ts + 1, 7)]

    assert ledger.lost("meter", stored) == [1]


def test_what_was_not_acknowledged_may_be_there_or_not(ledger: Ledger) -> None:
    """A reading without its acknowledgement is neither missed nor too many."""
    assert ledger.lost("meter", kept(ledger, 0, 1, 3)) == []
    assert ledger.lost("meter", kept(ledger, 0, 1, 2, 3)) == []
    assert ledger.acknowledged == 3


def test_readings_of_other_times_do_not_count(ledger: Ledger) -> None:
    """What stands outside of the ledger's times cannot stand for what was acknowledged."""
    stored = [(ledger.base_ts - 1, 1), (ledger.base_ts + 4, 1)]

    assert ledger.lost("meter", stored) == [0, 1, 3]


def test_growing_memory_is_noticed() -> None:
    """Memory that grows through the whole run fails the soak."""
    memory = judge_memory([60_000 + 1_000 * n for n in range(60)])

    assert memory.grew
    assert found(memory=memory).faults == [
        "the server's memory grows: 19.5 MiB from middle to last third"
    ]


def test_memory_that_grew_in_the_warm_up_is_fine() -> None:
    """What is taken once, at the beginning, is no leak; nor is a single peak."""
    samples = [60_000, 90_000, 140_000, *[150_000] * 8, 400_000]

    assert not judge_memory(samples).grew


@pytest.mark.parametrize(("middle", "allowed"), [(60_000, TOLERATED_KIB), (300_000, 30_000)])
def test_growth_has_a_bound(middle: int, allowed: int) -> None:
    """The last third may be a tenth or 10 MiB above the middle one, whichever is more."""
    assert not judge_memory([middle] * 6 + [middle + allowed] * 3).grew
    assert judge_memory([middle] * 6 + [middle + allowed + 1] * 3).grew


def test_few_samples_say_nothing() -> None:
    """A run that was too short to tell warm-up from growth is not judged by its memory."""
    assert not judge_memory([10**6 * n for n in range(FEWEST_SAMPLES - 1)]).judged


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"died": True}, "died"),
        ({"acknowledged": 0}, "no reading"),
        ({"wrong": Counter({"http telemetry: 500": 2})}, "http telemetry: 500 (2 times)"),
        ({"complaints": ["call.failed"]}, "call.failed"),
        ({"untried": ["calls answered"]}, "calls answered"),
    ],
)
def test_every_trouble_is_a_fault(more: dict[str, Any], word: str) -> None:
    """Whatever went wrong is told in a line of its own."""
    assert found().faults == []
    (fault,) = found(**more).faults
    assert word in fault


def test_many_troubles_are_told_by_example() -> None:
    """Of a thousand lost readings a few are named, and how many more there are."""
    (fault,) = found(lost=[f"meter {n}" for n in range(1_000)]).faults

    assert fault.startswith("1000 acknowledged readings lost: meter 0;")
    assert fault.endswith("and 995 more")


def test_an_unwanted_answer_is_remembered() -> None:
    """Everything is counted; an answer that was not wanted is also told by what it was."""
    tally = Tally()

    tally.expect("wrong token", 401, 401)
    tally.expect("wrong token", 200, 401)

    assert tally.did["wrong token"] == 2
    assert tally.wrong == Counter({"wrong token: 200": 1})
