"""A device that speaks ThingsBoard's device API over HTTP (contract, sections 3 and 11)."""

from __future__ import annotations

import json
from urllib.parse import quote

import aiohttp
from yarl import URL

from gateway.simulator.device import (
    Credentials,
    SimulatorError,
    Unanswered,
    bracketed,
    token_of,
    trouble,
)

_JSON = {"Content-Type": "application/json"}
_MOST_BYTES = 1_048_576
"""Bytes of one answer that are read."""
_MOST_SHOWN = 200
"""Characters of an error body that are passed on."""


class HttpDevice:
    """One device. The session, and so the connections, are the fleet's."""

    def __init__(
        self, session: aiohttp.ClientSession, host: str, port: int, *, scheme: str = "http"
    ) -> None:
        self._session = session
        self._base = f"{scheme}://{bracketed(host)}:{port}/api/v1/"
        self._telemetry: URL | None = None

    async def provision(self, body: bytes) -> bytes:
        """Any answer of status 200, refusals included: that is the contract."""
        return await self._post(URL(self._base + "provision"), body)

    async def connect(self, credentials: Credentials) -> None:
        token = quote(token_of(credentials, "HTTP"), safe="")
        self._telemetry = URL(f"{self._base}{token}/telemetry", encoded=True)

    async def telemetry(self, body: bytes) -> None:
        if self._telemetry is None:
            raise SimulatorError("HTTP: connect comes before telemetry")
        await self._post(self._telemetry, body)

    async def close(self) -> None:
        self._telemetry = None

    async def _post(self, url: URL, body: bytes) -> bytes:
        # The address is left out of every message: it may hold the device's token.
        try:
            async with self._session.post(url, data=body, headers=_JSON) as answer:
                payload = await _read(answer)
        except TimeoutError:
            raise Unanswered("HTTP: no answer in time") from None
        except aiohttp.ClientConnectorCertificateError as exc:
            told = trouble(exc.certificate_error)
            raise SimulatorError(
                f"HTTP: the server's certificate is not trusted ({told})"
            ) from None
        except aiohttp.ClientConnectorError as exc:
            raise SimulatorError(f"HTTP: cannot connect ({trouble(exc.os_error)})") from None
        except (aiohttp.ClientError, OSError) as exc:
            raise Unanswered(f"HTTP: the connection failed ({type(exc).__name__})") from None
        if answer.status != 200:
            said = f"HTTP: answered {answer.status} {_sentence(payload)}".rstrip()
            raise SimulatorError(said, payload)
        return payload


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    payload = bytearray()
    async for chunk in answer.content.iter_any():
        payload += chunk
        if len(payload) > _MOST_BYTES:
            raise SimulatorError(f"HTTP: the answer is larger than {_MOST_BYTES} bytes")
    return bytes(payload)


def _sentence(payload: bytes) -> str:
    """What an error body says: its `message`, or else how it begins."""
    try:
        text = str(json.loads(payload)["message"])
    except (ValueError, KeyError, TypeError):
        text = payload.decode("utf-8", "replace")
    return "".join(ch if ch.isprintable() else " " for ch in text[:_MOST_SHOWN])
