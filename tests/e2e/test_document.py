"""What the document says is what the gateway does."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import aiohttp
import pytest
from fuzzing import Target, fuzz, target
from inside import Gate

from gateway.core.model import EventKind
from gateway.wire.route import PathTable, Route


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("gateway")) as one:
        yield one


async def test_every_route_over_http_is_described(gate: Gate) -> None:
    """Whoever adds a route says what it is: none is served that the document leaves out."""
    routes = await gate.gateway.all_routes()
    silent = [
        route.name
        for route in routes
        if route.http and not route.operation and not route.http[0].startswith("HEAD ")
    ]
    assert silent == []


async def test_the_administration_is_at_no_address_of_the_device_api(gate: Gate) -> None:
    """Loaded or not, an address leads to the same route."""
    early = PathTable([(at, route) for route in gate.gateway.routes for at in route.http])
    routes = await gate.gateway.all_routes()
    full = PathTable([(at, route) for route in routes for at in route.http])
    late = [route for route in routes if route not in gate.gateway.routes]
    assert len(late) > 50
    assert not any(route.coap or route.mqtt for route in late)
    for route in late:
        for at in route.http:
            assert early.find(at) is None
            assert _found(full, at) is route
    for route in gate.gateway.routes:
        for at in route.http:
            assert _found(full, at) is _found(early, at)


def _found(table: PathTable, address: str) -> Route:
    found = table.find(address)
    assert found is not None
    return found[0]


def test_the_document_is_complete(running: Target) -> None:
    """It has the device API, enrolment and the rest, and every reference in it leads somewhere."""
    paths = running.document["paths"]
    for path in ("/api/v1/provision", "/api/v1/{token}/telemetry", "/metrics", "/docs"):
        assert path in paths
    schemas = running.document["components"]["schemas"]
    assert set(_references(running.document)) <= set(schemas)
    ids = [one["operationId"] for item in paths.values() for one in item.values()]
    assert len(ids) == len(set(ids))


def test_what_is_answered_is_in_the_document(running: Target, tmp_path) -> None:
    """Whatever is asked, nothing breaks, and no status, media type or body is unheard of."""
    done = fuzz(
        running,
        tmp_path,
        *("--phases", "fuzzing", "--max-examples", "3", "--workers", "2"),
        *("--seed", "1", "--continue-on-failure"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout


def test_the_token_counts(running: Target) -> None:
    """The requests above reach more than the door: the device's token and the login are good."""
    url = f"{running.url}/api/v1/{running.tokens[-1]}/attributes"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.status == 200
    assert running.headers
    asked = urllib.request.Request(f"{running.url}/api/auth/user", headers=running.headers)
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.status == 200


async def test_a_refusal_is_found_by_the_id_of_its_answer(gate: Gate) -> None:
    """The id that a refused device is answered is that of the event."""
    url = f"http://127.0.0.1:{gate.ports.http}/api/v1/provision"
    body = gate.request("somebody") | {"provisionDeviceSecret": "wrong"}
    async with aiohttp.ClientSession() as client, client.post(url, json=body) as answer:
        told = answer.headers["X-Request-Id"]
    await gate.gateway.store.writer.settled()  # a refusal is answered before it is written down
    events = await gate.registry.last_events(limit=10)
    refused = [event for event in events if event.kind is EventKind.DEVICE_PROVISION]
    assert [event.peer.request for event in refused] == [told]


def _references(value: object) -> Iterator[str]:
    """The names of all schemas that are referred to."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rpartition("/")[2]
        for one in value.values():
            yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)
