"""A desk where devices enrol."""

from __future__ import annotations

import pytest
from certified import Certified
from est_desk import Desk

from gateway.core.limits import RateLimiter


@pytest.fixture
async def lab(store, clock, tokens):
    return Certified(store, clock, tokens)


@pytest.fixture
async def fleet(new_fleet):
    return await new_fleet()


@pytest.fixture
def limiter():
    return RateLimiter()


@pytest.fixture
async def desk(lab, fleet, limiter):
    return Desk(lab, fleet, limiter)
