"""What our answers to provisioning tell besides ThingsBoard's: by a profile's wish, on trial."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.core.model import AnswerMembers, Device, Rehearsal

_encode = msgspec.json.Encoder().encode
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_NOTHING = b"{}"


def encode_members(provisioned: bytes, members: AnswerMembers, device: Device, now: int) -> bytes:
    """A SUCCESS body with what a profile lets it tell besides, at its end; `now` in ms."""
    told = members_alone(members, device, now)
    return provisioned if told == _NOTHING else b"%b,%b" % (provisioned[:-1], told[1:])


def members_alone(members: AnswerMembers, device: Device, now: int) -> bytes:
    """The same as an object of its own."""
    told: dict[str, object] = {}
    if members.device_id:
        told["deviceId"] = device.uuid
    if members.device_name:
        told["deviceName"] = device.name
    if members.server_time:
        told["serverTime"] = now
    if members.servers:
        told["servers"] = members.servers
    if members.ca_certificate:
        told["caCertificate"] = members.ca_certificate
    return _encode(told)


def encode_rehearsal(rehearsal: Rehearsal, refusal: bytes = b"{}") -> bytes:
    """What would become of a request that was made on trial.

    `refusal` is the JSON object it would be refused with, whose members come first. The steps are
    there for who proved a secret, and so is what is known of the device.
    """
    told: dict[str, object] = {}
    if rehearsal.refusal is None:
        told["status"] = "SUCCESS"
    told["dryRun"] = True
    if rehearsal.profile_name:
        told["profile"] = rehearsal.profile_name
    if rehearsal.device_name:
        told["deviceName"] = rehearsal.device_name
    if rehearsal.credentials_type:
        told["credentialsType"] = rehearsal.credentials_type
        told["claims"] = rehearsal.claims
    if rehearsal.steps:
        told["steps"] = rehearsal.steps
        if rehearsal.refusal is not None:
            told["code"] = rehearsal.refusal.reason.value
    # Members of the refusal keep their place; what it tells already is not told twice.
    return _encode(_OBJECT.decode(refusal) | told)
