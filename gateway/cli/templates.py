"""Which profiles are templates, as devices that speak Blynk's API name them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.core.model import DeviceProfile
    from gateway.dialects.blynk.profile import BlynkTemplate


def template_of(profile: DeviceProfile) -> BlynkTemplate | None:
    """The profile as a template; None when it is none, or its table cannot be used."""
    from gateway.dialects.blynk.profile import SECTION, BlynkTemplate, read_section

    if SECTION not in profile.sections:
        return None
    try:
        return BlynkTemplate(profile, read_section(profile.sections[SECTION]))
    except ValueError:
        return None


def templates_for(profiles: Iterable[DeviceProfile], path: str) -> list[BlynkTemplate]:
    """Those that devices of the organisation with this path may name."""
    found = (template_of(one) for one in profiles)
    return [one for one in found if one is not None and one.is_for(path)]
