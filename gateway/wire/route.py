"""One operation, its address on every wire, and its odd numbers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from gateway.core.model import Wire
from gateway.wire.call import Call, Conduct, Format, Reply, Status
from gateway.wire.operation import Operation

Handler: TypeAlias = Callable[[Call], Awaitable[Reply]]

AdmitsLarge: TypeAlias = Callable[[Mapping[str, str]], Awaitable[bool]]
"""Whether whoever sends these HTTP headers may send a body larger than anybody may."""

Address: TypeAlias = str | tuple[str, ...]
"""`POST /api/v1/provision`, or a topic. A wire that has an encoding for a `/` within a segment
(`%2F`) gives the decoded segments instead, those of the text split at each `/`."""


class Route(Struct, frozen=True, kw_only=True):
    """One operation and where it is found.

    `http` and `coap` are a method and a path template (`POST /api/v1/{token}/telemetry`; what
    lives at `HEAD` of a path is asked instead of its `GET`), `blynk` is a command, `mqtt` a topic
    template (`v1/devices/me/attributes/request/{id}`). A template's last segment may be `{rest*}`,
    which takes whatever follows, nothing included; `{}` takes any one segment, an empty one
    included, as MQTT's `+` does. `mqtt_reply` is the topic the answer is published on, made from
    the same names; without it the answer has no body on MQTT.

    `http_codes`, `coap_codes` and `blynk_codes` replace the wire's own number for a status (CoAP
    2.01 is written 201). `coap_formats` fixes the Content-Format of a body, None for no label,
    whatever the request's own was. `quiet` routes are logged at debug level when all went well:
    telemetry would otherwise drown the log. `conduct` stands above the session's where it names the
    status.

    `patient` routes wait for something that may never come (a long poll): the router's time-out
    does not hold for them, and they are counted apart.

    A call of a `numbered` route has an id, as has each call of one that is not quiet: in
    `Peer.request`, so in the events it leads to, in the log, and in the answer over HTTP.

    `operation` is for the document; a route without one is not in it. Over HTTP a body may have up
    to `max_body_bytes` where that is more than the listener's own bound, when `admits_large` (asked
    before the body is read) says so, or there is none to be asked.
    """

    name: str
    handler: Handler
    http: tuple[str, ...] = ()
    coap: tuple[str, ...] = ()
    mqtt: tuple[str, ...] = ()
    blynk: tuple[str, ...] = ()
    mqtt_reply: str | None = None
    http_codes: Mapping[Status, int] = {}
    coap_codes: Mapping[Status, int] = {}
    blynk_codes: Mapping[Status, int] = {}
    coap_formats: Mapping[Format, int | None] = {}
    conduct: Mapping[Status, Conduct] = {}
    quiet: bool = False
    patient: bool = False
    numbered: bool = False
    operation: Operation | None = None
    max_body_bytes: int = 0
    admits_large: AdmitsLarge | None = None

    def addresses(self, wire: Wire) -> tuple[str, ...]:
        """The templates of this operation on `wire`, method first where the wire has methods."""
        match wire.plain:
            case Wire.HTTP:
                return self.http
            case Wire.COAP:
                return self.coap
            case Wire.MQTT:
                return self.mqtt
            case Wire.BLYNK:
                return self.blynk
            case _:
                return ()


class PathTable:
    """Finds the route of an address. Literal addresses cost one dictionary look-up.

    Of templates, one that ends in a word goes before one that ends in a name. With `fold`, literal
    segments match in any case (CoAP paths, ThingsBoard contract section 10).
    """

    def __init__(self, entries: list[tuple[str, Route]], *, fold: bool = False) -> None:
        self._fold = fold
        self._exact: dict[str, tuple[Route, Mapping[str, str]]] = {}
        self._templates: dict[tuple[int, str], list[tuple[tuple[str, ...], Route]]] = {}
        """By how many segments there are, and the last of them; empty where that is a name."""
        self._open_ended: list[tuple[tuple[str, ...], Route]] = []
        for template, route in entries:
            if "{" not in template:
                self._exact[template.lower() if fold else template] = (route, {})
                continue
            segments = tuple(template.split("/"))
            if segments[-1].endswith("*}"):
                self._open_ended.append((segments[:-1], route))
            else:
                last = "" if segments[-1].startswith("{") else segments[-1]
                key = len(segments), last.lower() if fold else last
                self._templates.setdefault(key, []).append((segments, route))

    def find(self, address: Address) -> tuple[Route, Mapping[str, str]] | None:
        """The route at `address` and the values of its template's names, or None."""
        if not isinstance(address, str):
            text = "/".join(address)
            if text.count("/") >= len(address):  # a segment holds one: no literal does
                return self._find_template(address)
            address = text
        found = self._exact.get(address.lower() if self._fold else address)
        if found is not None:
            return found
        return self._find_template(address.split("/"))

    def _find_template(self, given: Sequence[str]) -> tuple[Route, Mapping[str, str]] | None:
        last = given[-1].lower() if self._fold else given[-1]
        for key in ((len(given), last), (len(given), "")):
            for segments, route in self._templates.get(key, ()):
                params = self._bind(segments, given)
                if params is not None:
                    return route, params
        for segments, route in self._open_ended:
            if len(given) >= len(segments):
                params = self._bind(segments, given[: len(segments)])
                if params is not None:
                    return route, params
        return None

    def _bind(self, segments: tuple[str, ...], given: Sequence[str]) -> dict[str, str] | None:
        params: dict[str, str] = {}
        for want, have in zip(segments, given, strict=True):
            if want.startswith("{"):
                if want == "{}":
                    continue
                if not have:
                    return None
                params[want[1:-1]] = have
            elif want != have and not (self._fold and want.lower() == have.lower()):
                return None
        return params
