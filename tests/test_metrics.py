"""Prometheus' text tells what was counted."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.core.births import Births
from gateway.core.histogram import SIZES, Histogram
from gateway.core.model import Peer, ProvisionType, RefusalReason, Refused, Wire
from gateway.metrics import Depths, Metrics, Sources
from gateway.wire.call import Reply, Status
from gateway.wire.meters import Meters
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router


class Figures:
    """Metrics over sources of the tests' own."""

    def __init__(self):
        self.meters = Meters()
        self.births = Births()
        self.sizes, self.times_s = Histogram(SIZES), Histogram()
        self.wires = ["mqtt", "mqtt", "coaps"]
        self.metrics = Metrics(
            Sources(
                meters=self.meters,
                births=self.births,
                commit_sizes=self.sizes,
                commit_times_s=self.times_s,
                depths=lambda: Depths(3, 2, 1),
                wires=lambda: self.wires,
                logins=lambda: {"wrong": 4},
                version="1.2.3",
            )
        )

    async def samples(self):
        """Values by name and labels."""
        text = (await self.metrics.text()).decode()
        return {
            (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
def figures():
    return Figures()


async def test_calls_are_told_by_route_and_wire(figures):
    """Latencies are a histogram whose count is the number of calls; failures go by status."""

    async def handler(call):
        return Reply(status=Status.REFUSED)

    route = Route(name="r", handler=handler, http=("GET /r",), quiet=True)
    router = Router([route], Wire.HTTP, Gauge(10, figures.meters))
    for _ in range(3):
        await router.answer("GET /r", b"", Peer(Wire.HTTPS, "192.0.2.1:1"))
    told = await figures.samples()
    labels = ("route=r", "wire=https")
    assert told["gatehouse_call_seconds_count", *labels] == 3
    assert told["gatehouse_call_seconds_bucket", "le=+Inf", *labels] == 3
    assert told["gatehouse_call_seconds_bucket", "le=10.0", *labels] == 3
    assert told["gatehouse_calls_failed_total", "route=r", "status=refused", "wire=https"] == 3


async def test_provisionings_are_told_by_wire_strategy_outcome_and_reason(figures):
    """One that never came to a strategy is told without one."""
    refused = Refused(RefusalReason.NAME_TAKEN)
    figures.births.count(Wire.COAP, ProvisionType.ALLOW_CREATE_NEW_DEVICES, refused)
    figures.births.count(Wire.MQTT, None, Refused(RefusalReason.UNKNOWN_KEY))
    figures.births.count(Wire.MQTT, None, Refused(RefusalReason.UNKNOWN_KEY))
    told = await figures.samples()
    name = "gatehouse_provisions_total"
    taken = ("outcome=refused", "reason=name_taken", "strategy=ALLOW_CREATE_NEW_DEVICES")
    assert told[name, *taken, "wire=coap"] == 1
    assert told[name, "outcome=refused", "reason=unknown_key", "strategy=", "wire=mqtt"] == 2


async def test_the_state_is_told_as_it_is_now(figures):
    """Sessions by wire, depths, logins and the store's commits."""
    figures.sizes.add(7)
    figures.times_s.add(0.002)
    told = await figures.samples()
    assert told["gatehouse_sessions", "wire=mqtt"] == 2
    assert told["gatehouse_sessions", "wire=coaps"] == 1
    assert [told["gatehouse_waiting", f"what={what}"] for what in ("decisions", "calls")] == [3, 2]
    assert told["gatehouse_waiting", "what=polls"] == 1
    assert told["gatehouse_logins_total", "outcome=wrong"] == 4
    assert told["gatehouse_commit_decisions_bucket", "le=8.0"] == 1
    assert told["gatehouse_commit_decisions_bucket", "le=4.0"] == 0
    assert told["gatehouse_commit_seconds_sum",] == pytest.approx(0.002)
    assert told["gatehouse_info", "version=1.2.3"] == 1
    assert told["process_open_fds",] > 0
    figures.wires = []
    assert (await figures.samples())["gatehouse_sessions", "wire=mqtt"] == 0


async def test_many_may_ask_at_once(figures):
    """Each gets a whole text."""
    texts = await asyncio.gather(*(figures.metrics.text() for _ in range(5)))
    assert all(text.endswith(b"\n") and b"gatehouse_info" in text for text in texts)


async def test_the_lag_of_the_loop_is_measured(figures, monkeypatch):
    """Each turn of the measurement adds one value."""
    monkeypatch.setattr("gateway.metrics.LAG_EVERY_S", 0.001)
    task = asyncio.create_task(figures.metrics.run())
    async with asyncio.timeout(5):
        while (await figures.samples())["gatehouse_loop_lag_seconds_count",] < 2:
            await asyncio.sleep(0.01)
    task.cancel()
