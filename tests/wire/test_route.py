"""Addresses and their routes."""

from __future__ import annotations

import pytest

from gateway.core.model import Wire
from gateway.wire.route import PathTable, Route


async def nothing(call):
    raise AssertionError("not called here")


def route(name):
    return Route(name=name, handler=nothing)


TABLE = [
    ("POST /api/v1/provision", route("provision")),
    ("POST /api/{version}/provision", route("any-version")),
    ("POST /api/v1/{token}/telemetry", route("telemetry")),
    ("POST /api/v1/{token}/provision/{rest*}", route("with-token")),
    ("GET /api/v1/{token}/{rest*}", route("unknown")),
]


@pytest.mark.parametrize(
    ("address", "name", "params"),
    [
        ("POST /api/v1/provision", "provision", {}),
        ("POST /api/v2/provision", "any-version", {"version": "v2"}),
        ("POST /api/v1/T/telemetry", "telemetry", {"token": "T"}),
        ("POST /api/v1/T/provision", "with-token", {"token": "T"}),
        ("POST /api/v1/T/provision/a/b", "with-token", {"token": "T"}),
        ("GET /api/v1/T", "unknown", {"token": "T"}),
        ("GET /api/v1/T/a/b/c", "unknown", {"token": "T"}),
    ],
)
def test_an_address_finds_its_route(address, name, params):
    """Literal addresses come first, then templates, then open-ended ones."""
    found = PathTable(TABLE).find(address)
    assert found is not None
    assert (found[0].name, found[1]) == (name, params)


@pytest.mark.parametrize(
    "address",
    ["", "/", "POST /api/v1//telemetry", "PUT /api/v1/provision", "POST /API/v1/provision"],
)
def test_other_addresses_find_none(address):
    """An empty segment is no value; methods and literals must be equal."""
    assert PathTable(TABLE).find(address) is None


@pytest.mark.parametrize(
    ("address", "name", "params"),
    [
        (("POST ", "api", "v1", "provision"), "provision", {}),
        (("POST ", "api", "v1", "a/b", "telemetry"), "telemetry", {"token": "a/b"}),
        (("POST ", "api", "v1", "a/b", "provision", "c"), "with-token", {"token": "a/b"}),
        (("GET ", "api", "v1", "a/b"), "unknown", {"token": "a/b"}),
    ],
)
def test_a_slash_within_a_segment_separates_nothing(address, name, params):
    """An address given as segments finds what its text finds, and keeps a value's own slashes."""
    found = PathTable(TABLE).find(address)
    assert found is not None
    assert (found[0].name, found[1]) == (name, params)


def test_a_slash_within_a_segment_makes_no_literal():
    """Segments whose text reads like a literal address are not that address."""
    assert PathTable(TABLE).find(("POST ", "api", "v1/provision")) is None
    assert PathTable(TABLE).find(("POST ", "api/v1", "provision")) is None


@pytest.mark.parametrize(
    ("address", "params"),
    [("POST /API/v1/Provision", {}), ("POST /api/V1/ToKen/TELEMETRY", {"token": "ToKen"})],
)
def test_a_folding_table_ignores_the_case_of_literals_only(address, params):
    """CoAP features match in any case, while a token keeps its own (contract, section 10)."""
    found = PathTable(TABLE, fold=True).find(address)
    assert found is not None
    assert found[1] == params


def test_a_route_knows_its_addresses_by_wire():
    """Each wire has its own column, a secure one that of its plain one; a shell has none."""
    both = Route(name="r", handler=nothing, http=("GET /a",), mqtt=("t",))
    plain = [both.addresses(wire) for wire in (Wire.HTTP, Wire.MQTT, Wire.COAP, Wire.SHELL)]
    assert plain == [("GET /a",), ("t",), (), ()]
    secure = [both.addresses(wire) for wire in (Wire.HTTPS, Wire.MQTTS, Wire.COAPS)]
    assert secure == plain[:3]
