"""The device API over HTTP (contract, section 10), and the same over CoAP (ours).

Over CoAP each call is a GET or a POST with the same parameters. File uploads are not served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

from gateway.core.errors import CredentialsGone
from gateway.core.model import Secret, Ticket, Wire
from gateway.core.sessions import Sessions
from gateway.dialects.blynk import operations
from gateway.dialects.blynk.addresses import the_one, to_be_read, to_be_written
from gateway.dialects.blynk.batches import MOST_BATCH_BYTES, check_content_type, read_batch
from gateway.dialects.blynk.callers import Callers, Known, parameter
from gateway.dialects.blynk.data import DeviceData, Write
from gateway.dialects.blynk.device_meta import MetaApi
from gateway.dialects.blynk.values import WRONG_TYPE_TEXT, Mistake, bare, from_texts, json_of
from gateway.dialects.blynk.words import (
    DONE,
    INVALID_TOKEN,
    QUIET_HEADERS,
    answered,
    refused,
    too_many,
)
from gateway.wire.call import Call, Format, Reply
from gateway.wire.operation import Operation
from gateway.wire.route import Handler, Route

PATH: Final = "/external/api"
WRITING: Final = (
    "update",
    "batch/update",
    "update/property",
    "logEvent",
    "device/meta/update",
)
"""Calls whose GET changes something: their HEAD must not."""
_BATCH_DONE: Final = Reply(b"OK", format=Format.TEXT, headers=QUIET_HEADERS)

Serve: TypeAlias = Callable[[Call, Known], Awaitable[Reply]]
"""Serves a device that is known. May raise `Mistake` and `CredentialsGone`."""


class DeviceApi:
    def __init__(self, callers: Callers, data: DeviceData, sessions: Sessions) -> None:
        self._callers = callers
        self._data = data
        self._sessions = sessions
        self._meta = MetaApi(callers, data)

    # ── where it is found ───────────────────────────────────────────────────────────────────

    def routes(self) -> tuple[Route, ...]:
        meta = self._meta
        return (
            Route(
                name="blynk.connected",
                handler=self.is_connected,
                http=(f"GET {PATH}/isHardwareConnected",),
                coap=_on_coap("isHardwareConnected"),
                quiet=True,
                operation=operations.IS_CONNECTED,
            ),
            self._route("get", self.get, operations.GET),
            self._route("getAll", self.get_all, operations.GET_ALL),
            self._route("update", self.update, operations.UPDATE),
            Route(
                name="blynk.batch.update",
                handler=self._for_known(self.batch_update),
                http=(f"GET {PATH}/batch/update",),
                coap=(f"GET {PATH}/batch/update",),
                quiet=True,
                operation=operations.BATCH_UPDATE,
            ),
            Route(
                name="blynk.batch",
                handler=self._for_known(self.batch),
                http=(f"POST {PATH}/batch/update",),
                coap=(f"POST {PATH}/batch/update",),
                quiet=True,
                operation=operations.BATCH,
                max_body_bytes=MOST_BATCH_BYTES,
            ),
            self._route("update/property", meta.set_property, operations.SET_PROPERTY),
            self._route("logEvent", meta.log_event, operations.LOG_EVENT),
            self._route("device/meta", meta.get, operations.META),
            self._route("device/meta/update", meta.update, operations.SET_META),
            Route(
                name="blynk.look",
                handler=self.look,
                http=tuple(f"HEAD {PATH}/{call}" for call in WRITING),
                quiet=True,
            ),
        )

    def _route(self, call: str, serve: Serve, operation: Operation) -> Route:
        return Route(
            name=f"blynk.{call.replace('/', '.')}",
            handler=self._for_known(serve),
            http=(f"GET {PATH}/{call}",),
            coap=_on_coap(call),
            quiet=True,
            operation=operation,
        )

    def _for_known(self, serve: Serve) -> Handler:
        """Serve devices alone, and tell them of their mistakes."""

        async def handler(call: Call) -> Reply:
            known = await self._callers.known(call)
            if isinstance(known, Reply):
                return known
            try:
                return await serve(call, known)
            except Mistake as exc:
                return refused(str(exc))
            except CredentialsGone:
                return INVALID_TOKEN  # it got another token in this very moment

        return handler

    # ── whether it is here ──────────────────────────────────────────────────────────────────

    async def is_connected(self, call: Call) -> Reply:
        """Whether the device has a live connection; asked with a pending token: it has none yet."""
        callers = self._callers
        wait_s = callers.strangers.wait_s(call.peer)
        if wait_s:
            return too_many(wait_s)
        found = await callers.by_token(Secret(parameter(call, "token")), call.peer)
        if found is None:
            callers.strangers.wrong(call.peer)
            return INVALID_TOKEN
        if isinstance(found, Ticket):
            return answered(False)
        limited = await callers.limited(await callers.with_template(found))
        if limited is not None:
            return limited
        here = self._sessions.is_reachable(found.id)
        return answered(here or await callers.is_elsewhere(found, self._sessions.node))

    async def look(self, call: Call) -> Reply:
        """The HEAD of what would change something: whose token it is, and nothing else."""
        known = await self._callers.known(call)
        return known if isinstance(known, Reply) else await self._callers.limited(known) or DONE

    # ── datastreams ─────────────────────────────────────────────────────────────────────────

    async def get(self, call: Call, known: Known) -> Reply:
        """One value bare, empty while there is none; several as an object, less those."""
        asked = to_be_read(call, known)
        limited = await self._callers.limited(known)
        if limited is not None:
            return limited
        found = await self._data.read(known, list(asked.values()))
        if len(asked) > 1:
            there = {name: one for name, one in asked.items() if one.name in found}
            return answered({name: json_of(one, found[one.name]) for name, one in there.items()})
        [stream] = asked.values()
        text = bare(stream, found[stream.name]) if stream.name in found else ""
        return Reply(text.encode(), format=Format.TEXT, headers=QUIET_HEADERS)

    async def get_all(self, call: Call, known: Known) -> Reply:
        """By pin; what has none, by its name."""
        limited = await self._callers.limited(known)
        if limited is not None:
            return limited
        streams = () if known.template is None else known.template.streams
        found = await self._data.read(known, streams)
        there = [one for one in streams if one.name in found]
        return answered({one.label: json_of(one, found[one.name]) for one in there})

    async def update(self, call: Call, known: Known) -> Reply:
        writes = _writes(call, known)
        return await self._write(known, writes) or DONE

    async def batch_update(self, call: Call, known: Known) -> Reply:
        """As `update`, in slightly other words."""
        with _batch_words():
            writes = _writes(call, known)
        return await self._write(known, writes) or _BATCH_DONE

    async def batch(self, call: Call, known: Known) -> Reply:
        """Many values of one datastream, each with its time. Over CoAP a POST without a body is as
        a GET: so it is with every call."""
        if call.peer.wire.plain is Wire.COAP and not call.body:
            return await self.batch_update(call, known)
        check_content_type(call.headers)
        stream = the_one(call, known)
        with _batch_words():
            writes = read_batch(stream, call.body)
        return await self._write(known, writes) or _BATCH_DONE

    async def _write(self, known: Known, writes: Sequence[Write]) -> Reply | None:
        limited = await self._callers.limited(known, len(writes))
        if limited is None:
            await self._data.write(known, writes)
        return limited


def _on_coap(call: str) -> tuple[str, ...]:
    return (f"GET {PATH}/{call}", f"POST {PATH}/{call}")


@contextmanager
def _batch_words() -> Iterator[None]:
    """One text has no full stop where a batch is refused."""
    try:
        yield
    except Mistake as exc:
        text = str(exc)
        raise Mistake(text.removesuffix(".") if text == WRONG_TYPE_TEXT else text) from None


def _writes(call: Call, known: Known) -> list[Write]:
    named = to_be_written(call, known)
    return [Write(stream, from_texts(stream, texts)) for stream, texts in named]
