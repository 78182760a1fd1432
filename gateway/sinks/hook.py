"""The hook: a device's call of a method nobody here knows, put to a web service of the operator.

`POST url` with `{"device":{"id","name","type"},"method":"..","params":..}`. Its answer's body, if
it is JSON, goes to the device as it is. 404 means that it knows no such method either.
"""

from __future__ import annotations

import aiohttp
import msgspec
import structlog

from gateway.core.model import Device

log = structlog.get_logger()

_encode = msgspec.json.Encoder().encode
_REFUSED = b'{"error":"the hook failed"}'
_BUSY = b'{"error":"busy, try again later"}'
_NO_SUCH_METHOD = 404


class Hook:
    """Asks one URL, between `open` and `close`.

    `timeout_s` bounds one call, `max_calls` those under way, `max_answer` the bytes of an answer.
    """

    def __init__(
        self, url: str, *, timeout_s: float, max_calls: int = 100, max_answer: int = 65_536
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._max_calls = max_calls
        self._max_answer = max_answer
        self._calls = 0
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make ready to ask. Opens no connection yet."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            connector=aiohttp.TCPConnector(limit=self._max_calls),
            headers={"User-Agent": "gatehouse"},
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def __call__(self, device: Device, method: str, params: str) -> bytes | None:
        """The answer as JSON; None when the service knows no such method.

        What goes wrong is logged without the payload, and answered with an error. Raises
        `TimeoutError`.
        """
        if self._session is None or self._calls >= self._max_calls:
            return _BUSY
        self._calls += 1
        try:
            return await self._ask(self._session, method, _asked(device, method, params))
        except aiohttp.ClientError as exc:
            log.warning("hook.failed", method=method[:64], reason=_reason(exc))
            return _REFUSED
        except TimeoutError:
            log.warning("hook.late", method=method[:64], after_s=self._timeout_s)
            raise
        finally:
            self._calls -= 1

    async def _ask(self, session: aiohttp.ClientSession, method: str, body: bytes) -> bytes | None:
        headers = {"Content-Type": "application/json"}
        async with session.post(
            self._url, data=body, headers=headers, allow_redirects=False
        ) as response:
            if response.status == _NO_SUCH_METHOD:
                return None
            answer = await response.content.read(self._max_answer + 1)
            while len(answer) <= self._max_answer and not response.content.at_eof():
                answer += await response.content.read(self._max_answer + 1 - len(answer))
            if response.status // 100 != 2 or not self._fits(answer):
                log.warning(
                    "hook.unusable",
                    method=method[:64],
                    status=response.status,
                    answer_bytes=len(answer),
                    wanted=f"status 2xx and at most {self._max_answer} bytes of JSON",
                )
                return _REFUSED
            return answer

    def _fits(self, answer: bytes) -> bool:
        """Whether it is JSON, and not too long for a device."""
        if len(answer) > self._max_answer:
            return False
        try:
            msgspec.json.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return True


def _reason(exc: aiohttp.ClientError) -> str:
    """What went wrong, without the address, whose query may hold a secret."""
    cause = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else None
    told = cause.strerror if cause is not None else None
    return told or type(exc).__name__


def _asked(device: Device, method: str, params: str) -> bytes:
    return _encode(
        {
            "device": {"id": device.uuid, "name": device.name, "type": device.type},
            "method": method,
            "params": msgspec.Raw(params.encode()),
        }
    )
