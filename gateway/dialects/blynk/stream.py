"""The binary protocol's words: what its commands mean (contract, section 11).

Public firmware and clients decide what is served and how:

- a login is answered before anything else, and PING by the transport;
- INTERNAL with pairs (`ver`, `h-beat`, `tmpl`, …) is what a device says of itself; on a connection
  whose token waits for its device it is the claim;
- INTERNAL `rtc`, `utc` and `meta` ask for something, and are answered by an INTERNAL of their id;
- HARDWARE `vw` writes, and is answered when the value is on disk; HARDWARE_SYNC and HARDWARE `vr`
  are answered by a HARDWARE `vw` for each value there is, then by a RESPONSE.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from gateway.core.errors import GatehouseError, Overloaded, StoreUnavailable
from gateway.core.model import (
    Device,
    ProvisionRequest,
    ProvisionResult,
    ProvisionToken,
    RefusalReason,
    Refused,
    Secret,
    Ticket,
    Wire,
)
from gateway.dialects.blynk.callers import Known
from gateway.dialects.blynk.claim import NO_ROOM_REASONS
from gateway.dialects.blynk.data import NO_FIELD_TEXT, Write
from gateway.dialects.blynk.hardware import hardware_info
from gateway.dialects.blynk.profile import Datastream
from gateway.dialects.blynk.services import Services
from gateway.dialects.blynk.stream_guest import Household, StreamGuest
from gateway.dialects.blynk.stream_words import (
    EVENT_LOG,
    HARDWARE,
    HARDWARE_NAMES,
    HARDWARE_SYNC,
    INTERNAL,
    INVALID_TOKEN,
    LOGINS,
    NOT_REGISTERED,
    PROPERTY,
    QUOTA_LIMIT,
    SERVER_ERROR,
    UNSERVED,
    clock_body,
    info_in,
    joined,
    parts_of,
    stream_at,
    values_in,
    written_body,
)
from gateway.dialects.blynk.values import Mistake, from_texts, texts_of
from gateway.wire.call import Admitted, BadPayload, Call, Hello, Rejected, Reply, Status
from gateway.wire.route import Route
from gateway.wire.router import Router

MOST_TOKEN_BYTES: Final = 4096
_DONE: Final = Reply()
_REFUSED: Final = Reply(status=Status.REFUSED, reason="this command is not for devices here")
_UNKNOWN: Final = Reply(status=Status.NOT_FOUND, reason="no such command for hardware")
_PENDING: Final = Reply(status=Status.UNAUTHENTICATED, reason="the token is not claimed yet")
_NO_TEMPLATE: Final = Reply(status=Status.BAD_REQUEST, reason="no such template for this token")
_GONE: Final = Reply(status=Status.GONE, reason="the token is good no more")
_NO_ROOM: Final = Reply(status=Status.FULL, reason="there are as many devices as there may be")
_TEMPLATE_REASONS: Final = frozenset({RefusalReason.UNKNOWN_TEMPLATE, RefusalReason.OTHER_TEMPLATE})

Serve: TypeAlias = Callable[[Call, Known, list[str]], Awaitable[Reply]]
"""Serves a device's command with its parameters. May raise `Mistake` and `CredentialsGone`."""


class BlynkStream:
    """Says whose connection it is, and serves its commands."""

    def __init__(self, services: Services) -> None:
        self._provisioner = services.provisioner
        self._callers = services.callers
        self._templates = services.templates
        self._data = services.data
        self._attendance = services.attendance
        self._clock = services.clock
        self._claim_s = services.claim_s

        def router(some: Iterable[Route]) -> Router:
            return Router(some, Wire.BLYNK, services.gauge, timeout_s=services.timeout_s)

        self._house = Household(
            services.sessions, services.rpc, services.attendance, router(self.routes())
        )
        self._pending = router(self.pending_routes())

    # ── the login ───────────────────────────────────────────────────────────────────────────

    async def connect(self, hello: Hello) -> Admitted | Rejected:
        """The session of a device, or of somebody who is to claim a ticket."""
        strangers = self._callers.strangers
        if strangers.wait_s(hello.peer):
            return Rejected(QUOTA_LIMIT, QUOTA_LIMIT, "too many wrong tokens")
        token = _token_in(hello)
        try:
            found = await self._callers.by_token(token, hello.peer)
            if found is None:
                strangers.wrong(hello.peer)
                return Rejected(INVALID_TOKEN, INVALID_TOKEN, "unknown token")
            if isinstance(found, Ticket):
                return self._admit(StreamGuest(self._house, token, hello.peer, found.path))
            known = await self._callers.with_template(found)
        except (Overloaded, StoreUnavailable):
            return Rejected(SERVER_ERROR, SERVER_ERROR, "try again later")
        return self._admit(StreamGuest(self._house, token, hello.peer, known=known))

    def _admit(self, guest: StreamGuest) -> Admitted:
        if guest.known is None:
            admitted = Admitted("pending", self._pending, (), {}, lasts_s=self._claim_s)
        else:
            admitted = Admitted("device", self._house.router, (), {}, guest.known.device)
        admitted.guest = guest
        guest.admit(admitted)
        return admitted

    # ── where it is found ───────────────────────────────────────────────────────────────────

    def routes(self) -> tuple[Route, ...]:
        """The commands of devices."""
        return (
            self._route(HARDWARE, self.hardware),
            self._route(HARDWARE_SYNC, self.sync),
            self._route(INTERNAL, self.internal),
            self._route(PROPERTY, self.set_property),
            self._route(EVENT_LOG, self.log_event),
            Route(
                name="blynk.stream.refused",
                handler=self.refuse,
                blynk=(*UNSERVED, *LOGINS),
                quiet=True,
            ),
        )

    def pending_routes(self) -> tuple[Route, ...]:
        """The commands before the claim. Told 5, not authenticated, firmware would hang up."""
        codes = {Status.UNAUTHENTICATED: NOT_REGISTERED}
        return (
            Route(
                name="blynk.stream.claim", handler=self.claim, blynk=(INTERNAL,), blynk_codes=codes
            ),
            Route(
                name="blynk.stream.pending",
                handler=self.wait_for_claim,
                blynk=("{command}",),
                blynk_codes=codes,
                quiet=True,
            ),
        )

    def _route(self, command: str, serve: Serve) -> Route:
        async def handler(call: Call) -> Reply:
            known = await self._known(call.guest)
            try:
                return await serve(call, known, parts_of(call.body))
            except Mistake as exc:
                raise BadPayload(str(exc)) from None

        name = f"blynk.stream.{command.lower()}"
        return Route(name=name, handler=handler, blynk=(command,), quiet=True)

    async def _known(self, guest: StreamGuest) -> Known:
        """The device, with its template as it is now."""
        known = guest.known
        assert known is not None
        self._attendance.heard(known.device.id)
        if not guest.outdated:
            return known
        guest.outdated = False  # before the look: it may be changed again meanwhile
        try:
            found = await self._callers.by_token(guest.token)
            if isinstance(found, Device):
                guest.known = known = await self._callers.with_template(found)
        except GatehouseError:
            guest.outdated = True
            raise
        return known

    async def refuse(self, call: Call) -> Reply:
        return _REFUSED

    async def wait_for_claim(self, call: Call) -> Reply:
        """A device that goes on without a template is refused, once a connection: it gets no other
        answer for that, but whoever asks what became of its ticket is told."""
        guest: StreamGuest = call.guest
        if not guest.said or guest.refused:
            return _PENDING
        reply = await self._claim(call, "")
        return reply if reply is _GONE else _PENDING

    # ── the claim ───────────────────────────────────────────────────────────────────────────

    async def claim(self, call: Call) -> Reply:
        """What a device says of itself, and the template it is of.

        One that names none may do so later: some clients wait for this answer before they say more.
        """
        guest: StreamGuest = call.guest
        told = info_in(parts_of(call.body))
        if told is None:
            return _PENDING
        guest.learned(told)
        guest.said = {**guest.said, **told}
        name = guest.said.get("tmpl", "")
        template = await self._templates.find(name, guest.path)
        if template is None and not name:
            return _DONE
        return await self._claim(call, name if template is None else template.id)

    async def _claim(self, call: Call, template: str) -> Reply:
        guest: StreamGuest = call.guest
        result = await self._provision(call, template, guest.said)
        if isinstance(result, Refused):
            return self._refusal(call, result)
        guest.claimed(await self._callers.with_template(result.device))
        return _DONE

    async def _provision(
        self, call: Call, template: str, said: Mapping[str, str]
    ) -> ProvisionResult:
        guest: StreamGuest = call.guest
        return await self._provisioner.provision(
            ProvisionRequest(
                proof=ProvisionToken(guest.token, template),
                peer=call.peer,
                hardware=hardware_info(said, HARDWARE_NAMES),
            )
        )

    def _refusal(self, call: Call, refused: Refused) -> Reply:
        """A wrong template uses nothing up; without its token the session is over."""
        if refused.retry_after_s:
            wait_s = refused.retry_after_s
            return Reply(status=Status.LIMITED, reason="too many claims", retry_after_s=wait_s)
        if refused.reason in _TEMPLATE_REASONS:
            guest: StreamGuest = call.guest
            guest.refused = True
            guest.said = {name: text for name, text in guest.said.items() if name != "tmpl"}
            return _NO_TEMPLATE
        if refused.reason in NO_ROOM_REASONS:
            return _NO_ROOM
        self._callers.strangers.wrong(call.peer)
        return _GONE

    # ── what a device says and asks besides its values ──────────────────────────────────────

    async def internal(self, call: Call, known: Known, parts: list[str]) -> Reply:
        limited = await self._callers.limited(known)
        if limited is not None:
            return limited
        match parts:
            case ["rtc" | "utc", *_]:
                return Reply(clock_body(parts, self._clock()), topic=INTERNAL)
            case ["meta", "get", name]:
                value = (await self._data.meta(known, [name]))[name]
                return Reply(joined("meta", name, *texts_of(value)), topic=INTERNAL)
            case ["meta", "set", name, *_]:
                return await self._set_meta(call, known, name, values_in(parts[1:]))
            case _:
                return await self._refresh(call, known, parts)

    async def _set_meta(self, call: Call, known: Known, name: str, values: Sequence[str]) -> Reply:
        field = None if known.template is None else known.template.field_by_name.get(name)
        if field is None:
            raise Mistake(NO_FIELD_TEXT)
        await self._data.set_meta(known, field, ",".join(values))
        return _DONE

    async def _refresh(self, call: Call, known: Known, parts: list[str]) -> Reply:
        """What a device that is there says of itself is noted; of another template: nothing is."""
        said = info_in(parts)
        if said is None:
            raise BadPayload("no such internal command")
        call.guest.learned(said)
        if known.template is None:
            return _DONE  # of no template: there is nowhere to note it
        template = said.get("tmpl") or known.template.id
        result = await self._provision(call, template, {**said, "tmpl": template})
        return self._refusal(call, result) if isinstance(result, Refused) else _DONE

    async def set_property(self, call: Call, known: Known, parts: list[str]) -> Reply:
        """Several values of one property are a list with commas."""
        if len(parts) < 3:
            raise BadPayload("a property needs a pin, a name and a value")
        stream = stream_at(known.template, parts[0])
        limited = await self._callers.limited(known, 1)
        if limited is None:
            await self._data.set_property(known, stream, parts[1], ",".join(values_in(parts)))
        return limited or _DONE

    async def log_event(self, call: Call, known: Known, parts: list[str]) -> Reply:
        code, description = (*parts, "", "")[:2]
        limited = await self._callers.limited(known, 1)
        if limited is None:
            await self._data.log_event(known, code, description)
        return limited or _DONE

    # ── values ──────────────────────────────────────────────────────────────────────────────

    async def hardware(self, call: Call, known: Known, parts: list[str]) -> Reply:
        match parts:
            case ["vw", pin, *_]:
                stream = stream_at(known.template, pin)
                value = from_texts(stream, values_in(parts))
                limited = await self._callers.limited(known, 1)
                if limited is None:
                    await self._data.write(known, [Write(stream, value)], source=call.guest)
                return limited or _DONE
            case ["vr", *pins]:
                return await self._tell(call, known, pins)
            case _:
                return _UNKNOWN

    async def sync(self, call: Call, known: Known, parts: list[str]) -> Reply:
        """Some values, or all there are."""
        match parts:
            case []:
                pins = () if known.template is None else known.template.by_pin
                return await self._tell(call, known, [str(pin) for pin in pins])
            case ["vr", *pins]:
                return await self._tell(call, known, pins)
            case _:
                return _UNKNOWN

    async def _tell(self, call: Call, known: Known, pins: Sequence[str]) -> Reply:
        """A HARDWARE `vw` for each value; those of datastreams that have none are left out."""
        streams: dict[str, Datastream] = {}
        for pin in pins:
            stream = stream_at(known.template, pin)
            streams[stream.name] = stream
        limited = await self._callers.limited(known)
        if limited is not None:
            return limited
        guest: StreamGuest = call.guest
        for name, value in (await self._data.read(known, list(streams.values()))).items():
            guest.push(HARDWARE, written_body(streams[name], value))
        return _DONE


def _token_in(hello: Hello) -> Secret:
    """The text of a login; "" for what cannot be one."""
    body = hello.password or b""
    try:
        return Secret(body.decode() if len(body) <= MOST_TOKEN_BYTES else "")
    except UnicodeDecodeError:
        return Secret("")
