"""What a device tells of its hardware, in one shape for all wires (contract, section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.core.model import Json

MOST_CHARACTERS: Final = 255
"""Longer texts are cut."""

HTTP_NAMES: Final = {
    "ver": "version",
    "build": "build",
    "fwType": "fwType",
    "blVer": "blynkVersion",
    "boType": "boardType",
    "templateId": "templateId",
    "type": "type",
}
MQTT_NAMES: Final = {
    "ver": "version",
    "build": "build",
    "type": "fwType",
    "tmpl": "templateId",
    "rxbuff": "bufferSize",
}
"""Its `type` is the firmware's, where HTTP's is MCU or NCP."""
BINARY_NAMES: Final = {
    "ver": "version",
    "mcu": "version",
    "ncp": "version",
    "build": "build",
    "fw-type": "fwType",
    "blynk": "blynkVersion",
    "dev": "boardType",
    "tmpl": "templateId",
    "buff-in": "bufferSize",
    "h-beat": "heartbeat",
    "cpu": "cpu",
    "con": "connection",
}
_NUMBERS: Final = ("bufferSize", "heartbeat")
_encode = msgspec.json.Encoder().encode


def hardware_info(said: Mapping[str, object], names: Mapping[str, str]) -> Json:
    """The object that is kept, from what a device said under its wire's names."""
    info: dict[str, str | int] = {}
    for name, kept in names.items():
        value = said.get(name)
        if value is None or value == "":
            continue
        text = str(value)[:MOST_CHARACTERS]
        info[kept] = int(text) if kept in _NUMBERS and _is_whole(text) else text
    return Json(_encode(info).decode())


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10
