"""Who calls, may they, and how errors are told: what all routes of the administration share.

The order is the contract's and leaks nothing: nobody is known (401), the permission is lacking
whatever is asked about (403), and what is out of the caller's sight is not there (404).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from gateway.core.errors import Cause, Conflict, Forbidden, Invalid
from gateway.core.model import Actor, Peer, Permission, Wire
from gateway.core.ports import Clock
from gateway.wire.call import Call, Format, Reply, Status
from gateway.wire.operation import Operation
from gateway.wire.route import Route

T = TypeVar("T")
Handler: TypeAlias = Callable[[Call, Actor], Awaitable[Reply]]
Authenticate: TypeAlias = Callable[[Call], Awaitable[Actor]]
"""Who calls, by the headers of the call. Raises `Trouble`."""

_encode = msgspec.json.Encoder().encode
_NOBODY = Peer(Wire.HTTP, "")

GENERAL: Final = 2
AUTHENTICATION: Final = 10
TOKEN_EXPIRED: Final = 11
PERMISSION_DENIED: Final = 20
INVALID_ARGUMENTS: Final = 30
BAD_REQUEST_PARAMS: Final = 31
ITEM_NOT_FOUND: Final = 32
TOO_MANY_REQUESTS: Final = 33
VERSION_CONFLICT: Final = 35

NO_PERMISSION: Final = "You don't have permission to perform this operation!"
NOT_FOUND: Final = "Requested item wasn't found!"
"""ThingsBoard's own texts."""

_NUMBERS: Final[Mapping[Status, int]] = {
    Status.BAD_REQUEST: 400,
    Status.UNAUTHENTICATED: 401,
    Status.FORBIDDEN: 403,
    Status.NOT_FOUND: 404,
    Status.UNACCEPTABLE: 406,
    Status.TIMEOUT: 408,
    Status.CONFLICT: 409,
    Status.LIMITED: 429,
    Status.INTERNAL: 500,
    Status.OVERLOADED: 503,
}


class Trouble(Exception):
    """A call ends here, with this status, ThingsBoard's error code, and a sentence."""

    def __init__(self, status: Status, code: int, message: str, *, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


def bad_request(message: str) -> Trouble:
    return Trouble(Status.BAD_REQUEST, BAD_REQUEST_PARAMS, message)


def not_found(message: str = NOT_FOUND) -> Trouble:
    return Trouble(Status.NOT_FOUND, ITEM_NOT_FOUND, message)


def json_reply(body: Any, status: Status = Status.OK) -> Reply:
    """`body` is a struct, or what msgspec makes JSON of."""
    return Reply(_encode(body), status, Format.JSON)


def body_of(call: Call, kind: type[T]) -> T:
    """The JSON body. Raises `Trouble` (400) that names the member, and repeats nothing of it."""
    if not call.body:
        raise bad_request("Required request body is missing")
    try:
        return msgspec.json.decode(call.body, type=kind)
    except msgspec.ValidationError as exc:
        raise bad_request(str(exc)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_request("the body is not JSON") from None


class Desk:
    """Makes routes of handlers that want to know who calls."""

    def __init__(self, authenticate: Authenticate, clock: Clock) -> None:
        self._authenticate = authenticate
        self._clock = clock

    def route(
        self,
        name: str,
        http: str | tuple[str, ...],
        handler: Handler,
        *,
        needs: tuple[Permission, ...],
        operation: Operation,
        codes: Mapping[Status, int] | None = None,
        max_body_bytes: int = 0,
        patient: bool = False,
        quiet: bool = False,
    ) -> Route:
        """`needs`: one of these permissions; none: whoever is logged in."""

        async def answer(call: Call) -> Reply:
            try:
                actor = await self._authenticate(call)
                if needs and not actor.may(*needs):
                    raise Forbidden(NO_PERMISSION)
                return await handler(call, actor)
            except Exception as exc:
                return self._told(exc, codes or {})

        return Route(
            name=f"thingsboard.admin.{name}",
            handler=answer,
            http=(http,) if isinstance(http, str) else http,
            http_codes=codes or {},
            operation=operation,
            max_body_bytes=max_body_bytes,
            admits_large=self._admits_large if max_body_bytes else None,
            patient=patient,
            quiet=quiet,
        )

    def public(
        self,
        name: str,
        http: str,
        handler: Callable[[Call], Awaitable[Reply]],
        *,
        operation: Operation,
    ) -> Route:
        """A route for everybody: logging in."""

        async def answer(call: Call) -> Reply:
            try:
                return await handler(call)
            except Exception as exc:
                return self._told(exc, {})

        return Route(
            name=f"thingsboard.admin.{name}", handler=answer, http=(http,), operation=operation
        )

    async def _admits_large(self, headers: Mapping[str, str]) -> bool:
        try:
            await self._authenticate(Call(b"", _NOBODY, headers=headers))
        except Trouble:
            return False
        return True

    def _told(self, exc: Exception, codes: Mapping[Status, int]) -> Reply:
        trouble = _trouble(exc)
        body = {
            "status": codes.get(trouble.status) or _NUMBERS[trouble.status],
            "message": trouble.message,
            "errorCode": trouble.code,
            "timestamp": self._clock(),
        }
        return Reply(
            _encode(body),
            trouble.status,
            Format.JSON,
            reason=trouble.message,
            retry_after_s=trouble.retry_after_s,
        )


def _trouble(exc: Exception) -> Trouble:
    """What went wrong in ThingsBoard's terms; what broke is raised again."""
    match exc:
        case Trouble():
            return exc
        case Forbidden():
            return Trouble(Status.FORBIDDEN, PERMISSION_DENIED, NO_PERMISSION)
        case Invalid():
            return bad_request(str(exc))
        case Conflict(cause=Cause.VERSION):
            return Trouble(Status.CONFLICT, VERSION_CONFLICT, str(exc))
        case Conflict(cause=Cause.READ_ONLY):
            return Trouble(Status.CONFLICT, BAD_REQUEST_PARAMS, str(exc))
        case Conflict(cause=Cause.GONE):
            return not_found()
        case Conflict():
            return bad_request(str(exc))
        case _:
            raise exc
