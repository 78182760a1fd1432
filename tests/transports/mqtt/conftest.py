"""Every asynchronous test of the MQTT transport runs on both event loops it may meet."""

from __future__ import annotations

from transports.stream_ground import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]
