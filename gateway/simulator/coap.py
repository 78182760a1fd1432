"""A device that speaks ThingsBoard's device API over CoAP (contract, sections 5 and 10)."""

from __future__ import annotations

import asyncio
from typing import Any

import aiocoap
from aiocoap.error import Error as CoapError
from aiocoap.numbers.codes import BAD_REQUEST, CREATED, POST

from gateway.simulator.device import (
    Credentials,
    SimulatorError,
    Unanswered,
    bracketed,
    token_of,
    trouble,
)

_aiocoap: Any = aiocoap
"""The same module: half of its functions are typed, and calling the others would be an error."""

_JSON = 50
_REFUSALS = (b"{", b"\x08")
"""How a refusal's payload begins, in JSON and in protobuf. A bad payload's has none, or a text."""


class CoapDevice:
    """One device with an endpoint, and so a source port, of its own. Requests are confirmable."""

    def __init__(self, host: str, port: int, *, timeout_s: float = 10) -> None:
        self._base = f"coap://{bracketed(host)}:{port}"
        self._timeout_s = timeout_s
        self._context: Any = None
        self._token = ""

    async def provision(self, body: bytes) -> bytes:
        """The payload of 2.01, or of 4.00 when it has one: a refusal says so in its body."""
        answer = await self._post(("api", "v1", "provision"), body)
        payload = bytes(answer.payload)
        if answer.code == CREATED or (answer.code == BAD_REQUEST and payload[:1] in _REFUSALS):
            return payload
        return _refuse(answer)

    async def connect(self, credentials: Credentials) -> None:
        self._token = token_of(credentials, "CoAP")

    async def telemetry(self, body: bytes) -> None:
        answer = await self._post(("api", "v1", self._token, "telemetry"), body)
        if not answer.code.is_successful():
            _refuse(answer)

    async def close(self) -> None:
        context, self._context = self._context, None
        if context is not None:
            await context.shutdown()

    async def _post(self, path: tuple[str, ...], body: bytes) -> Any:
        message = _aiocoap.Message(code=POST, uri=self._base, payload=body, content_format=_JSON)
        message.opt.uri_path, message.opt.accept = path, _JSON
        try:
            async with asyncio.timeout(self._timeout_s):
                context = await self._opened()
                return await context.request(message).response
        except TimeoutError:
            raise Unanswered("CoAP: no answer in time") from None
        except (CoapError, OSError) as exc:
            # aiocoap's texts tell the host at most, never the path with its token.
            reason = trouble(exc.__cause__ or exc)
            raise SimulatorError(f"CoAP: the exchange failed ({reason})") from None

    async def _opened(self) -> Any:
        if self._context is None:
            self._context = await _aiocoap.Context.create_client_context(transports=["simple6"])
        return self._context


def _refuse(answer: Any) -> bytes:
    said = bytes(answer.payload[:200]).decode("utf-8", "replace")
    plain = "".join(ch if ch.isprintable() else " " for ch in said)
    raise SimulatorError(f"CoAP: answered {answer.code.dotted} {plain}".rstrip(), answer.payload)
