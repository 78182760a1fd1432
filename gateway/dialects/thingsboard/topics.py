"""The topics of a device's MQTT session: four families of the same meaning (contract, section 8).

What a family's topics carry is JSON, protobuf, or whatever the device's profile says. Answers go
out on the family their request came by, and what is told unasked on that subscribed to last.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from gateway.dialects.thingsboard.codecs import Codec
from gateway.dialects.thingsboard.profile import ThingsBoardProfile
from gateway.wire.call import BadPayload, Call

MOST_REQUEST_ID: Final = 2**31 - 1
"""An `int32` of the protobuf messages (section 15)."""


class Family(Struct, frozen=True, kw_only=True):
    """The topics of one family. Those of requests and answers end before their id."""

    name: str
    telemetry: str
    attributes: str
    """Published to by the device; and by us, when shared attributes change."""
    attributes_request: str
    attributes_response: str
    rpc_request: str
    rpc_response: str


def _short(name: str, suffix: str) -> Family:
    return Family(
        name=name,
        telemetry=f"v2/t{suffix}",
        attributes=f"v2/a{suffix}",
        attributes_request=f"v2/a/req{suffix}/",
        attributes_response=f"v2/a/res{suffix}/",
        rpc_request=f"v2/r/req{suffix}/",
        rpc_response=f"v2/r/res{suffix}/",
    )


V1: Final = Family(
    name="v1",
    telemetry="v1/devices/me/telemetry",
    attributes="v1/devices/me/attributes",
    attributes_request="v1/devices/me/attributes/request/",
    attributes_response="v1/devices/me/attributes/response/",
    rpc_request="v1/devices/me/rpc/request/",
    rpc_response="v1/devices/me/rpc/response/",
)
V2: Final = _short("v2", "")
V2_JSON: Final = _short("v2.json", "/j")
V2_PROTOBUF: Final = _short("v2.protobuf", "/p")

CLAIM_TOPIC: Final = "v1/devices/me/claim"
PROVISION_REQUEST: Final = "v1/devices/me/provision"
PROVISION_RESPONSE: Final = "v1/devices/me/provision/response"
GATEWAY_PROVISION_REQUEST: Final = "v1/gateway/provision"
GATEWAY_PROVISION_RESPONSE: Final = "v1/gateway/provision/response"
"""Those of 2020, in the session of a device or gateway that is known already (section 6)."""
CERTIFICATE_REQUEST: Final = "v1/devices/me/certificate/request"
CERTIFICATE_RESPONSE: Final = "v1/devices/me/certificate/response"
CERTIFICATE_FILTERS: Final = frozenset({CERTIFICATE_RESPONSE, CERTIFICATE_RESPONSE + "/+"})
"""With a number after it, as attribute requests have one, or without."""
PACKAGE_FILTERS: Final = frozenset(
    {"v2/fw/response/+/chunk/+", "v2/fw/error", "v2/sw/response/+/chunk/+", "v2/sw/error"}
)
"""`v2/fw/response/+`, which the SDK tries, is not among them (section 16)."""


class Voice(Struct, frozen=True):
    """A family as one profile uses it: what is read is `up`, what is written is `down`.

    `telemetry`, `attributes` and `updates` are the family's topics, or the profile's own: topic
    templates of routes the first two, a filter the last, and `updates_topic` one it matches.
    """

    family: Family
    up: Codec
    down: Codec
    telemetry: str
    attributes: str
    updates: str
    updates_topic: str


def family_voice(family: Family, up: Codec, down: Codec) -> Voice:
    """A family with its own topics throughout."""
    topic = family.attributes
    return Voice(family, up, down, family.telemetry, topic, topic, topic)


def own_voice(up: Codec, down: Codec, profile: ThingsBoardProfile) -> Voice:
    """The v1 family, with the profile's own filters in the place of its topics."""
    updates = profile.attributes_subscribe_topic
    return Voice(
        V1,
        up,
        down,
        template_of(profile.telemetry_topic),
        template_of(profile.attributes_topic),
        updates,
        topic_under(updates),
    )


def template_of(topic_filter: str) -> str:
    """An MQTT filter as a route's template: `+` takes one level, `#` the parent level too."""
    levels = ["{}" if level == "+" else level for level in topic_filter.split("/")]
    if levels[-1] == "#":
        levels[-1] = "{rest*}"
    return "/".join(levels)


def topic_under(topic_filter: str) -> str:
    """A topic that a filter matches, since one with wildcards cannot be published to.

    A filter without wildcards is that topic; else `+` and `#` become `me`.
    """
    return "/".join("me" if level in ("+", "#") else level for level in topic_filter.split("/"))


def request_id(call: Call) -> int:
    """The id at the end of the topic or path. Raises `BadPayload` unless it is a whole number."""
    text = call.params["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= MOST_REQUEST_ID):
        raise BadPayload("the request id must be a whole number of 31 bits")
    return int(text)
