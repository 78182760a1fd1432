"""The document and its page are served from here alone."""

from __future__ import annotations

import json
import re

import pytest

from gateway.admin.documentation import Documentation
from gateway.admin.health import Health
from gateway.core.model import Peer, Wire
from gateway.wire.call import Status
from gateway.wire.router import Gauge, Router

PIECES = ("/docs", "/docs/docs.css", "/docs/docs.js")


@pytest.fixture
def router():
    documentation = Documentation(title="Gatehouse", version="1.2")
    health = Health(listening=lambda: True, probe=lambda: None)
    routes = (*health.routes(), *documentation.routes())
    documentation.describe(routes)
    return Router(routes, Wire.HTTP, Gauge(10))


async def get(router, path):
    _, reply = await router.answer(f"GET {path}", b"", Peer(Wire.HTTP, "192.0.2.1:1"))
    assert reply.status is Status.OK
    return reply


async def test_the_document_describes_itself_too(router):
    """All routes it was given are in it; the same bytes are given each time."""
    first = await get(router, "/openapi.json")
    assert {"/healthz", "/readyz", "/openapi.json", *PIECES} == set(json.loads(first.body)["paths"])
    assert (await get(router, "/openapi.json")).body is first.body


@pytest.mark.parametrize("path", PIECES)
async def test_the_page_needs_no_network(router, path):
    """Nothing is taken from another host, and the browser is told to allow nothing else."""
    reply = await get(router, path)
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(rb"https?://|//[a-z]|@import|url\(", reply.body)


async def test_the_page_runs_under_its_own_policy(router):
    """Neither a script nor a style stands in the markup, and no text becomes markup."""
    page = (await get(router, "/docs")).body
    script = (await get(router, "/docs/docs.js")).body
    assert not re.search(rb"<script>|<style|\sstyle=|\son[a-z]+=", page)
    assert not re.search(rb"innerHTML|outerHTML|insertAdjacent|document\.write|eval", script)
    for served in re.findall(rb'(?:src|href)="([^"]+)"', page):
        await get(router, served.decode())
