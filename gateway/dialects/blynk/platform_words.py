"""What all calls of the Platform API share: who calls, bodies, refusals (contract, 2.2 and 4.4)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeAlias, TypeVar

import msgspec

from gateway.core.errors import Overloaded
from gateway.core.model import Actor, Permission
from gateway.dialects.blynk.callers import parameter
from gateway.dialects.blynk.words import NO_DEVICE_TEXT, NO_PERMISSION_TEXT, refused, too_many
from gateway.wire.call import Call, Reply, Status
from gateway.wire.operation import Operation
from gateway.wire.route import Route

T = TypeVar("T")

Authenticate: TypeAlias = Callable[[Call], Awaitable[Actor | Reply]]
"""Who calls, by the bearer token of the call; a reply for who may not (401, 403, 429)."""
Handler: TypeAlias = Callable[[Call, Actor], Awaitable[Reply]]

MOST_INT32: Final = 2**31 - 1
LATER_S: Final = 5
"""When to come again where too many tokens wait, or the store has too much to do."""
NO_JSON_TEXT: Final = "Request body is not a JSON object."
_INTEGER: Final = re.compile(r"-?[0-9]{1,10}", re.ASCII)


class Trouble(Exception):
    """A call ends here, with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.reason)
        self.reply = reply


class Desk:
    """Makes routes of handlers that want to know who calls."""

    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate

    def route(self, name: str, http: str, handler: Handler, operation: Operation) -> Route:
        async def answer(call: Call) -> Reply:
            actor = await self._authenticate(call)
            if isinstance(actor, Reply):
                return actor
            try:
                return await handler(call, actor)
            except Trouble as exc:
                return exc.reply
            except Overloaded:
                return too_many(LATER_S)

        return Route(
            name=f"blynk.platform.{name}",
            handler=answer,
            http=(http,),
            # Blynk's clients know 429, and no 503.
            http_codes={Status.OVERLOADED: 429},
            operation=operation,
        )


def body_of(call: Call, kind: type[T]) -> T:
    """The JSON body, whatever the Content-Type. Raises `Trouble` (400) that names the member, and
    repeats nothing of it."""
    try:
        # As text: msgspec looks at no bytes of what it skips, and JSON is UTF-8 throughout.
        return msgspec.json.decode(call.body.decode(), type=kind)
    except msgspec.ValidationError as exc:
        refuse(str(exc))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        refuse(NO_JSON_TEXT)


def number_in(call: Call, name: str) -> int:
    """A query parameter that is an int32. Raises `Trouble` (400)."""
    text = parameter(call, name)
    number = int(text) if _INTEGER.fullmatch(text) else MOST_INT32 + 1
    if not -MOST_INT32 - 1 <= number <= MOST_INT32:
        refuse(f"Parameter '{name}' must be a 32-bit integer.")
    return number


def allow(actor: Actor, lacked: Permission | None) -> None:
    """Raises `Trouble` (403) when somebody lacks a permission."""
    if lacked is not None:
        email = actor.peer.actor if actor.user is None else actor.user.email
        refuse(NO_PERMISSION_TEXT.format(email=email, operation=lacked.value), Status.FORBIDDEN)


def no_device(number: int) -> NoReturn:
    """There is none of that number, or it is out of sight."""
    missing(NO_DEVICE_TEXT.format(number=number))


def missing(text: str) -> NoReturn:
    refuse(text, Status.NOT_FOUND)


def refuse(text: str, status: Status = Status.BAD_REQUEST) -> NoReturn:
    raise Trouble(refused(text, status))
