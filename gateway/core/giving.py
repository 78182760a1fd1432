"""What a newborn begins with: its profile's settings with the device's own words filled in."""

from __future__ import annotations

from gateway.core.model import DeviceProfile, ProvisionRequest
from gateway.core.ports import Gifts


def gifts_for(profile: DeviceProfile, request: ProvisionRequest, name: str) -> Gifts | None:
    """The gifts for a device called `name`; None: there are none."""
    return None


def check_text(text: str) -> None:
    """Raises `ValueError` for a text whose `{...}` cannot be filled in."""
