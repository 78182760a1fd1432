"""A device says that whoever knows its key may take it (contract, section 18)."""

from __future__ import annotations

from functools import partial

from gateway.core.claiming import Claiming
from gateway.dialects.thingsboard import operations
from gateway.dialects.thingsboard.callers import Callers
from gateway.dialects.thingsboard.codecs import Codec
from gateway.dialects.thingsboard.device import CREATED, LIMITED_500
from gateway.dialects.thingsboard.topics import CLAIM_TOPIC
from gateway.wire.call import Call, Reply
from gateway.wire.route import Route

_DONE = Reply()


class ClaimApi:
    """Takes claims from devices. A device is never told whether its claim stands."""

    def __init__(self, callers: Callers, claiming: Claiming) -> None:
        self._callers = callers
        self._claiming = claiming

    def routes(self) -> tuple[Route, ...]:
        """HTTP and CoAP."""
        return (
            Route(
                name="thingsboard.claim",
                handler=self.claim,
                http=("POST /api/v1/{token}/claim", "POST /api/v1/claim"),
                coap=("POST /api/v1/{token}/claim", "POST /api/v1/claim"),
                http_codes=LIMITED_500,
                coap_codes=CREATED,
                quiet=True,
                numbered=True,
                operation=operations.CLAIM,
            ),
        )

    def mqtt_routes(self, codec: Codec) -> tuple[Route, ...]:
        """The one topic there is, in the profile's format."""
        return (
            Route(
                name="thingsboard.claim",
                handler=partial(self.claim, codec=codec),
                mqtt=(CLAIM_TOPIC,),
                quiet=True,
                numbered=True,
            ),
        )

    async def claim(self, call: Call, codec: Codec | None = None) -> Reply:
        device = await self._callers.device(call)
        if isinstance(device, Reply):
            return device
        codec = codec or await self._callers.codec(call, device)
        key, duration_ms = codec.claim(call.body)
        limited = await self._callers.limited(device)
        if limited is not None:
            return limited
        await self._claiming.offer(device, key, duration_ms, call.peer)
        return _DONE
