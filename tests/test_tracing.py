"""Spans say what was called and how it ended, and nothing a device sent."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from gateway.core.model import Peer, Wire
from gateway.tracing import Tracing, open_tracing
from gateway.wire.call import BadPayload, Reply, Status
from gateway.wire.meters import Meters
from gateway.wire.route import Route
from gateway.wire.router import Gauge, Router


class Watched:
    """A router whose calls are watched, and the spans of them."""

    def __init__(self, reply, sample=1.0):
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(SimpleSpanProcessor(self.exporter), sample=sample, version="1")
        self.reply = reply
        route = Route(name="r", handler=self.handle, http=("GET /r/{token}",))
        self.router = Router([route], Wire.HTTP, Gauge(10, Meters(self.tracing.trace)))

    async def handle(self, call):
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def ask(self):
        peer = Peer(Wire.HTTP, "192.0.2.1:1")
        _, reply = await self.router.answer("GET /r/tok-secret", b"body-secret", peer)
        return reply

    def spans(self):
        self.tracing.stop()
        return self.exporter.get_finished_spans()


async def test_a_call_is_a_span():
    """It has the route's name, the wire, the status and the id of the answer."""
    watched = Watched(Reply(b"x"))
    reply = await watched.ask()
    (span,) = watched.spans()
    assert (span.name, span.kind) == ("r", SpanKind.SERVER)
    assert span.attributes == {
        "gatehouse.route": "r",
        "gatehouse.wire": "http",
        "gatehouse.status": "ok",
        "gatehouse.request": reply.headers["X-Request-Id"],
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.resource.attributes["service.name"] == "gatehouse"


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(status=Status.INTERNAL), StatusCode.ERROR),
        (ZeroDivisionError("exc-secret"), StatusCode.ERROR),
        (BadPayload("exc-secret"), StatusCode.UNSET),
        (Reply(status=Status.REFUSED), StatusCode.UNSET),
    ],
)
async def test_a_fault_of_ours_is_an_error_and_nothing_secret_is_told(reply, status):
    """What the device did wrong is no error of the span's; no text of a request is in it."""
    watched = Watched(reply)
    await watched.ask()
    (span,) = watched.spans()
    assert span.status.status_code is status
    assert "secret" not in span.to_json()
    assert span.events == ()


async def test_of_calls_that_are_not_sampled_there_is_no_span():
    """With a ratio of 0 calls are served and leave nothing."""
    watched = Watched(Reply(b"x"), sample=0.0)
    assert (await watched.ask()).body == b"x"
    assert watched.spans() == ()


def test_without_an_endpoint_nothing_is_loaded():
    """A gateway that traces nothing does not import OpenTelemetry."""
    assert open_tracing("", 1.0) is None
    script = "import sys, gateway.app; print(any('opentelemetry' in name for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
