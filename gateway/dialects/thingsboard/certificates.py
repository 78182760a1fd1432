"""Another certificate for a device that proved who it is, on every wire.

Our extension; ThingsBoard signs nothing. The body is JSON whatever the profile says.
"""

from __future__ import annotations

from gateway.core.certifying import Certifier
from gateway.dialects.thingsboard.callers import Callers
from gateway.dialects.thingsboard.payloads import decode_renewal
from gateway.dialects.thingsboard.provision import json_reply
from gateway.dialects.thingsboard.topics import (
    CERTIFICATE_REQUEST,
    CERTIFICATE_RESPONSE,
    request_id,
)
from gateway.wire.call import Call, Format, Reply, Status
from gateway.wire.route import Route


class CertificateApi:
    """Renews certificates. What is given counts from its first use on, and until then the old."""

    def __init__(self, callers: Callers, certifier: Certifier) -> None:
        self._callers = callers
        self._certifier = certifier

    def routes(self) -> tuple[Route, ...]:
        """HTTP and CoAP."""
        return (
            Route(
                name="thingsboard.certificate",
                handler=self.renew,
                http=("POST /api/v1/{token}/certificate", "POST /api/v1/certificate"),
                coap=("POST /api/v1/{token}/certificate", "POST /api/v1/certificate"),
                # As for provisioning: a refusal is no error over HTTP (contract, section 3).
                http_codes={Status.REFUSED: 200, Status.LIMITED: 500},
                coap_codes={Status.OK: 201, Status.REFUSED: 400, Status.LIMITED: 500},
                coap_formats={Format.JSON: 50},
                quiet=True,
            ),
        )

    def mqtt_routes(self) -> tuple[Route, ...]:
        return (
            Route(
                name="thingsboard.certificate",
                handler=self.publish,
                mqtt=(CERTIFICATE_REQUEST + "{id}",),
                mqtt_reply=CERTIFICATE_RESPONSE + "{id}",
                quiet=True,
            ),
        )

    async def publish(self, call: Call) -> Reply:
        """On MQTT. The id is the device's, for it to tell answers apart."""
        request_id(call)
        return await self.renew(call)

    async def renew(self, call: Call) -> Reply:
        device = await self._callers.renewing(call)
        if isinstance(device, Reply):
            return device
        csr = decode_renewal(call.body)
        limited = await self._callers.limited(device)
        if limited is not None:
            return limited
        return json_reply(await self._certifier.renew(device, csr, call.peer), csr)
