"""Provisioning, on every wire (contract, sections 2 to 5)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import assert_never

from msgspec import structs

from gateway.core.model import (
    Certificate,
    PresharedKey,
    Provisioned,
    ProvisionRequest,
    ProvisionResult,
    Refused,
    Rehearsal,
)
from gateway.core.ports import Clock
from gateway.core.provisioning import Provisioner
from gateway.dialects.thingsboard import operations
from gateway.dialects.thingsboard.additions import encode_members, encode_rehearsal, members_alone
from gateway.dialects.thingsboard.answers import encode_legacy, encode_provisioned, encode_signed
from gateway.dialects.thingsboard.formats import also_in_cbor
from gateway.dialects.thingsboard.payloads import (
    decode_gateway_provision,
    decode_provision,
    decode_provision_either,
)
from gateway.dialects.thingsboard.problems import plain_reply, refusal_reply, with_body
from gateway.dialects.thingsboard.topics import (
    GATEWAY_PROVISION_REQUEST,
    GATEWAY_PROVISION_RESPONSE,
    PROVISION_REQUEST,
    PROVISION_RESPONSE,
)
from gateway.wire.call import Call, Format, Reply, Status
from gateway.wire.route import Route

_POST_IT = Reply(status=Status.BAD_REQUEST, reason="provisioning is a POST")

REQUEST_TOPIC = "/provision/request"
RESPONSE_TOPIC = "/provision/response"
IDENTITY = "identity"
"""Where a session keeps whom the certificate of its connection proved (an `Identity`, or None)."""


class ProvisionApi:
    """Bytes of a provisioning request → `Provisioner` → bytes of its answer."""

    def __init__(self, provisioner: Provisioner, clock: Clock) -> None:
        self._provisioner = provisioner
        self._clock = clock

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                name="thingsboard.provision.json",
                handler=also_in_cbor(self.provision_json),
                http=("POST /api/v1/provision",),
                http_codes={Status.REFUSED: 200},
                quiet=True,
                numbered=True,
                operation=operations.PROVISION,
            ),
            Route(
                name="thingsboard.provision",
                handler=also_in_cbor(self.provision),
                # Section 5: three segments ending in `provision`, or the fourth of more.
                coap=(
                    "POST /api/v1/provision",
                    "POST /api/{version}/provision",
                    "POST /api/v1/{token}/provision/{rest*}",
                ),
                coap_codes={Status.OK: 201, Status.REFUSED: 400},
                coap_formats={Format.JSON: 50, Format.PROTOBUF: None},
                mqtt=(REQUEST_TOPIC,),
                mqtt_reply=RESPONSE_TOPIC,
                quiet=True,
                numbered=True,
            ),
            Route(
                name="thingsboard.provision.get",
                handler=self.post_it,
                coap=("GET /api/v1/provision", "GET /api/v1/{token}/provision/{rest*}"),
                quiet=True,
            ),
        )

    def session_routes(self, *, gateway: bool) -> tuple[Route, ...]:
        """The wire of 2020, in the session of a device or gateway that is known already.

        A device provisions another, or itself anew, by a fleet's key and secret all the same.
        """
        device = Route(
            name="thingsboard.provision.session",
            handler=self.provision,
            mqtt=(PROVISION_REQUEST,),
            mqtt_reply=PROVISION_RESPONSE,
            quiet=True,
            numbered=True,
        )
        if not gateway:
            return (device,)
        for_others = Route(
            name="thingsboard.gateway.provision",
            handler=self.provision_for_gateway,
            mqtt=(GATEWAY_PROVISION_REQUEST,),
            mqtt_reply=GATEWAY_PROVISION_RESPONSE,
            quiet=True,
            numbered=True,
        )
        return device, for_others

    async def post_it(self, call: Call) -> Reply:
        """GET is 4.00 over CoAP, without a payload (contract, section 5)."""
        return _POST_IT

    def provision_json(self, call: Call) -> Awaitable[Reply]:
        """HTTP takes JSON only."""
        return self._answered(call, decode_provision(call.body, call.peer))

    async def provision_for_gateway(self, call: Call) -> Reply:
        """JSON alone: the messages have no place for the number that is echoed."""
        request, number = decode_gateway_provision(call.body, call.peer)
        reply = await self._answered(call, request)
        if number is None:
            return reply
        return structs.replace(reply, body=b'%b,"id":%d}' % (reply.body[:-1], number))

    async def provision(self, call: Call) -> Reply:
        """MQTT and CoAP try JSON, then protobuf; the answer is in the format that could be read."""
        request, protobuf = decode_provision_either(call.body, call.peer)
        if protobuf:
            request = _identified(request, call)
            if request.trial:
                return _protobuf_rehearsal(await self._provisioner.rehearse(request))
            return self._in_protobuf(await self._provisioner.provision(request), request, call)
        return await self._answered(call, request)

    async def _answered(self, call: Call, request: ProvisionRequest) -> Reply:
        """The answer in JSON, to a trial as well."""
        if call.identity is not None or call.session:
            request = _identified(request, call)
        if request.trial:
            return rehearsal_reply(await self._provisioner.rehearse(request))
        result = await self._provisioner.provision(request)
        if isinstance(result, Refused):
            return refusal_reply(result, call)
        return self._in_json(result, request)

    def _in_json(self, result: Provisioned, request: ProvisionRequest) -> Reply:
        reply = json_reply(result, request.credentials.csr, legacy=request.legacy)
        if result.members is not None:
            return structs.replace(reply, body=self._with_members(reply.body, request, result))
        return reply

    def _with_members(self, body: bytes, request: ProvisionRequest, result: Provisioned) -> bytes:
        """What its profile lets an answer tell besides."""
        members = result.members
        assert members is not None
        if request.legacy:
            members = structs.replace(members, device_id=False)  # told already
        return encode_members(body, members, result.device, self._clock())

    def _in_protobuf(self, result: ProvisionResult, request: ProvisionRequest, call: Call) -> Reply:
        from gateway.dialects.thingsboard import protobuf

        if isinstance(result, Refused):
            reply = refusal_reply(result, call)
            if reply.format is not Format.JSON:
                return reply
            return with_body(reply, protobuf.encode_refused(result), Format.PROTOBUF)
        if isinstance(result.credentials, PresharedKey):
            # A device that was added with a key; the messages have no word for one.
            return self._in_json(result, request)
        body = protobuf.encode_provisioned(result.credentials)
        if result.members is not None:
            told = members_alone(result.members, result.device, self._clock())
            body = protobuf.with_members(body, told)
        return Reply(body, Status.OK, Format.PROTOBUF)


def _identified(request: ProvisionRequest, call: Call) -> ProvisionRequest:
    """With whom the handshake of its connection proved, if anybody."""
    identity = call.identity
    if identity is None and call.session:
        identity = call.session.get(IDENTITY)
    return request if identity is None else structs.replace(request, identity=identity)


def json_reply(result: ProvisionResult, csr: str = "", *, legacy: bool = False) -> Reply:
    """The answer to a request that came with `csr`, or without one; or in the form of 2020."""
    match result:
        case Provisioned(device, credentials):
            if csr and isinstance(credentials, Certificate):
                body = encode_signed(credentials, result.issuers, csr)
            else:
                body = encode_provisioned(credentials)
            if legacy:
                body = encode_legacy(body, device, credentials)
            return Reply(body, Status.OK, Format.JSON)
        case Refused():
            return plain_reply(result)
        case unreachable:
            assert_never(unreachable)


def rehearsal_reply(rehearsal: Rehearsal) -> Reply:
    """The answer to a trial, with the status that the request itself would be answered with."""
    refusal = rehearsal.refusal
    if refusal is None:
        return Reply(encode_rehearsal(rehearsal), Status.OK, Format.JSON)
    reply = json_reply(refusal)
    return structs.replace(reply, body=encode_rehearsal(rehearsal, reply.body))


def _protobuf_rehearsal(rehearsal: Rehearsal) -> Reply:
    from gateway.dialects.thingsboard import protobuf

    reply = rehearsal_reply(rehearsal)
    body = protobuf.encode_rehearsal(rehearsal.refusal, reply.body)
    return with_body(reply, body, Format.PROTOBUF)
