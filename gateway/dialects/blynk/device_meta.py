"""Properties, events and metadata: what a device tells besides values (contract, section 10)."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.model import Json
from gateway.dialects.blynk.addresses import PIN, STREAM_ID, VALUE, given_in, number_of, the_one
from gateway.dialects.blynk.callers import Callers, Known, parameter
from gateway.dialects.blynk.data import (
    NO_FIELD_TEXT,
    READ_ONLY_TEXT,
    WRONG_META_TEXT,
    WRONG_PROPERTY_TEXT,
    DeviceData,
)
from gateway.dialects.blynk.profile import DEVICE_NAME, DEVICE_OWNER, FieldType
from gateway.dialects.blynk.values import Mistake
from gateway.dialects.blynk.words import DONE, answered
from gateway.wire.call import Call, Reply

# Verbatim, as in `words`: reading has a full stop, writing has none.
WRONG_FIELD_TEXT: Final = "Wrong metaField format."
_EVERYBODYS: Final = (DEVICE_NAME, DEVICE_OWNER)
_FIELD_ID, _FIELD_NAME = "metaFieldId", "metaFieldName"


class MetaApi:
    """For devices that are known already. Raises `Mistake` and `CredentialsGone`."""

    def __init__(self, callers: Callers, data: DeviceData) -> None:
        self._callers = callers
        self._data = data

    async def set_property(self, call: Call, known: Known) -> Reply:
        """All properties of the address, of one datastream. Several values of one are a list with
        commas."""
        stream = the_one(call, known)
        given = given_in(call)
        properties = {one: ",".join(given[one]) for one in given if one not in (PIN, STREAM_ID)}
        if not properties:
            raise Mistake(WRONG_PROPERTY_TEXT)
        limited = await self._callers.limited(known, len(properties))
        if limited is None:
            await self._data.set_properties(known, stream, properties)
        return limited or DONE

    async def log_event(self, call: Call, known: Known) -> Reply:
        limited = await self._callers.limited(known, 1)
        if limited is None:
            code, description = parameter(call, "code"), parameter(call, "description")
            await self._data.log_event(known, code, description)
        return limited or DONE

    async def get(self, call: Call, known: Known) -> Reply:
        """A field with its type. By its name too (ours): two that all devices have have no id."""
        name = _field_name(call, known)
        limited = await self._callers.limited(known)
        if limited is not None:
            return limited
        value = (await self._data.meta(known, [name]))[name]
        shown = msgspec.Raw(value.text.encode()) if isinstance(value, Json) else value
        return answered({"type": _type_of(known, name).value, "value": shown})

    async def update(self, call: Call, known: Known) -> Reply:
        own = {} if known.template is None else known.template.field_by_name
        try:
            name = _field_name(call, known)
            if name not in own and name not in _EVERYBODYS:
                raise Mistake(NO_FIELD_TEXT)
        except Mistake as exc:
            raise Mistake(str(exc).removesuffix(".")) from None
        if name in _EVERYBODYS:
            raise Mistake(READ_ONLY_TEXT)
        limited = await self._callers.limited(known, 1)
        if limited is None:
            if VALUE not in call.query:
                raise Mistake(WRONG_META_TEXT)
            await self._data.set_meta(known, own[name], parameter(call, VALUE))
        return limited or DONE


def _field_name(call: Call, known: Known) -> str:
    name = parameter(call, _FIELD_NAME)
    if name:
        return name
    number = number_of(parameter(call, _FIELD_ID), WRONG_FIELD_TEXT)
    field = None if known.template is None else known.template.field_by_id.get(number)
    if field is None:
        raise Mistake(NO_FIELD_TEXT)
    return field.name


def _type_of(known: Known, name: str) -> FieldType:
    if name == DEVICE_OWNER:
        return FieldType.EMAIL
    own = {} if known.template is None else known.template.field_by_name
    return own[name].type if name in own else FieldType.TEXT
