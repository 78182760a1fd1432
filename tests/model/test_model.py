"""A gateway lives as the reference says, and the reference is worth asking."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
import structlog

sys.path.insert(0, str(Path(__file__).parent))

import machine
from reference import CHECK, WINDOW_MS, Ask, FleetSecret, Reference, Verdict

from gateway.store.sql_births import BirthStore

STEPS = 250


@pytest.fixture(autouse=True)
def _quiet():
    """Thousands of requests would be as many lines."""
    kept = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        cache_logger_on_first_use=False,
    )
    yield
    structlog.configure(**kept)


def test_random_lives_go_as_the_reference_says() -> None:
    """A few hundred steps over all wires; `make fuzz` does ten thousand."""
    done = machine.run(STEPS, length=30)

    assert done.total() >= STEPS
    assert done["ask"], "nobody asked"


def test_a_window_that_stays_open_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that forgets to end a window at the first use does not pass."""

    async def used(*_: object) -> None:
        return None

    monkeypatch.setattr(BirthStore, "used", used)
    model, real = lived(), machine.Machine()
    real.start()
    try:
        ask = Ask("create", "anna", machine.NONCES[0])
        real._ask(ask, "http", lost=False)
        assert model.provision(ask)[0] is Verdict.NEW
        real.log_in(0, "coap")
        with pytest.raises(AssertionError, match="FAILURE"):
            real._ask(ask, "mqtt5", lost=False)
    finally:
        real.teardown()


def lived() -> Reference:
    return Reference(0, {"create": FleetSecret("create"), CHECK: FleetSecret(CHECK)})


def test_the_reference_knows_a_retry_from_a_stranger() -> None:
    """The same request is answered again until the credential is used, or the window is over."""
    model, ask = lived(), Ask("create", "anna", "n" * 16)
    first, thing = model.provision(ask)
    assert first is Verdict.NEW
    assert thing is not None
    assert model.provision(ask) == (Verdict.AGAIN, thing)
    assert model.provision(Ask("create", "anna", "m" * 16)) == (Verdict.FAILURE, None)
    model.now += WINDOW_MS
    assert model.provision(ask) == (Verdict.FAILURE, None)

    thing.token = "t"
    model.provision(Ask("create", "berta", "n" * 16))
    berta = model.named("berta")
    assert berta is not None
    berta.token = "b"
    assert model.log_in(berta)
    assert model.provision(Ask("create", "berta", "n" * 16)) == (Verdict.FAILURE, None)


def test_the_reference_suspends_what_a_secret_bore() -> None:
    """A quarantine suspends from its time on, and a rotated secret ends when its time is over."""
    model = lived()
    model.add("valve", CHECK, "factory")
    assert model.provision(Ask(CHECK, "valve"))[0] is Verdict.CLAIMED
    valve = model.named("valve")
    assert valve is not None
    assert model.opens(valve)
    model.secrets[CHECK].quarantined_since = 1
    assert model.opens(valve)
    model.secrets[CHECK].quarantined_since = 0
    assert not model.log_in(valve)

    model.rotate("create", "next", 1000)
    assert model.provision(Ask("create"))[0] is Verdict.NEW
    model.now += 1000
    assert model.provision(Ask("create"))[0] is Verdict.FAILURE
    assert model.provision(Ask("next"))[0] is Verdict.NEW
    assert model.provision(Ask("nobody's"))[0] is Verdict.NOT_FOUND
