"""Which datastreams a call names: by pin (`v1`), or one by its id (section 10).

Raises `Mistake`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.dialects.blynk.callers import Known, parameter
from gateway.dialects.blynk.profile import Datastream
from gateway.dialects.blynk.values import Mistake
from gateway.wire.call import Call, pairs_of

# Verbatim, as in `words`.
WRONG_PIN_TEXT: Final = "Wrong pin format."
WRONG_ID_TEXT: Final = "Wrong dataStreamId format."
NO_STREAM_TEXT: Final = "No datastream setup for that pin."
NOT_IN_PRODUCT_TEXT: Final = "Requested dataStream doesn't exist in the product {name}"

TOKEN, PIN, STREAM_ID, VALUE = "token", "pin", "dataStreamId", "value"
_PIN = re.compile(r"v(0|[1-9][0-9]{0,2})").fullmatch


def pin_of(text: str) -> int:
    """The number of `v1`. Names of parameters are case sensitive, so `V1` is none."""
    found = _PIN(text)
    if found is None:
        raise Mistake(WRONG_PIN_TEXT)
    return int(found[1])


def number_of(text: str, wrong: str) -> int:
    """An id, which has at most nine digits; else a `Mistake` of that text."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Mistake(wrong)
    return int(text)


def to_be_read(call: Call, known: Known) -> Mapping[str, Datastream]:
    """The datastreams that are asked for, by what they are called in the call."""
    given = given_in(call)
    if STREAM_ID in given:
        text = given[STREAM_ID][0]
        found = {text: _by_id(known, text)}
    else:
        found = {name: _by_pin(known, pin) for name, pin in _pins(given).items()}
    streams = {name: one for name, one in found.items() if one is not None}
    if len(streams) < len(found):
        raise Mistake(NOT_IN_PRODUCT_TEXT.format(name=_product(known)))
    return streams


def to_be_written(call: Call, known: Known) -> list[tuple[Datastream, list[str]]]:
    """The datastreams that are written to, each with the texts it is given."""
    given = given_in(call)
    if STREAM_ID in given:
        return [(_existing(_by_id(known, given[STREAM_ID][0])), given.get(VALUE, []))]
    pins = _pins(given)
    return [(_existing(_by_pin(known, pin)), given[name]) for name, pin in pins.items()]


def the_one(call: Call, known: Known) -> Datastream:
    """That of the parameter `pin`, or of `dataStreamId`."""
    number = parameter(call, STREAM_ID)
    if number:
        return _existing(_by_id(known, number))
    return _existing(_by_pin(known, pin_of(parameter(call, PIN))))


def given_in(call: Call) -> dict[str, list[str]]:
    """The parameters but the token, each with its values in order."""
    given: dict[str, list[str]] = {}
    for name, value in pairs_of(call.query):
        if name != TOKEN:
            given.setdefault(name, []).append(value)
    return given


def _pins(given: Mapping[str, list[str]]) -> dict[str, int]:
    if not given:
        raise Mistake(WRONG_PIN_TEXT)
    return {name: pin_of(name) for name in given}


def _by_pin(known: Known, pin: int) -> Datastream | None:
    return None if known.template is None else known.template.by_pin.get(pin)


def _by_id(known: Known, text: str) -> Datastream | None:
    number = number_of(text, WRONG_ID_TEXT)
    return None if known.template is None else known.template.by_id.get(number)


def _existing(stream: Datastream | None) -> Datastream:
    if stream is None:
        raise Mistake(NO_STREAM_TEXT)
    return stream


def _product(known: Known) -> str:
    return known.device.type if known.template is None else known.template.name
