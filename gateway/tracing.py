"""A span for each call, for OpenTelemetry. Only where the extra `otel` is installed and set up.

Whether a call is watched is decided here alone, by the sample ratio: a trace that a stranger's
header names is not joined, or he would choose for us. Spans hold names and numbers of ours, and
never a payload, a path or the text of an exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.errors import ConfigError
from gateway.wire.call import BadPayload, Call, Reply, Status
from gateway.wire.route import Handler, Route

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, Tracer

SERVICE = "gatehouse"
_FAULTS = frozenset({Status.INTERNAL, Status.FAILED})


class Tracing:
    """Makes spans and sends them away in batches, in a thread of its own.

    `sample` is how many of the calls have a span, 0 to 1. `stop` sends what waits.
    """

    def __init__(self, processor: SpanProcessor, *, sample: float, version: str = "") -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

        named = {"service.name": SERVICE, "service.version": version}
        self._provider: TracerProvider = TracerProvider(
            sampler=TraceIdRatioBased(sample),
            resource=Resource.create(named),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer: Tracer = self._provider.get_tracer("gateway", version)

    def trace(self, route: Route) -> Handler:
        """The route's handler inside a span. Implements `wire.meters.Trace`."""
        from opentelemetry.trace import SpanKind

        tracer, serve, name = self._tracer, route.handler, route.name

        async def handler(call: Call) -> Reply:
            with tracer.start_as_current_span(
                name,
                kind=SpanKind.SERVER,
                attributes={"gatehouse.wire": call.peer.wire.value, "gatehouse.route": name},
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                if call.peer.request:
                    span.set_attribute("gatehouse.request", call.peer.request)
                return await _watched(span, serve, call)

        return handler

    def stop(self) -> None:
        """Send what waits, and end. Takes as long as the collector does: call it in a thread."""
        self._provider.shutdown()


async def _watched(span: Span, serve: Handler, call: Call) -> Reply:
    """Serve, and say in the span how it ended."""
    from opentelemetry.trace import StatusCode

    try:
        reply = await serve(call)
    except BadPayload as exc:
        status = Status.UNDECODABLE if exc.undecodable else Status.BAD_REQUEST
        span.set_attribute("gatehouse.status", status.value)
        raise
    except BaseException as exc:
        span.set_attribute("error.type", type(exc).__name__)
        span.set_status(StatusCode.ERROR)
        raise
    span.set_attribute("gatehouse.status", reply.status.value)
    if reply.status in _FAULTS:
        span.set_status(StatusCode.ERROR)
    return reply


def open_tracing(endpoint: str, sample: float, version: str = "") -> Tracing | None:
    """Spans go to `endpoint` by OTLP over HTTP; None without one.

    Raises `ConfigError` when the extra is not installed.
    """
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        raise ConfigError(
            "[tracing] endpoint is set, but OpenTelemetry is not installed. Install it with "
            "`pip install 'gatehouse-iot[otel]'`, or remove the endpoint."
        ) from exc
    return Tracing(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)), sample=sample, version=version
    )
