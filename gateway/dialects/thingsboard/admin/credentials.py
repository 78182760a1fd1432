"""Devices' credentials, to be seen and changed (contract, section 17.3)."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from gateway.core.model import (
    AccessToken,
    Actor,
    Certificate,
    DeviceCredentials,
    DeviceCredentialsType,
    DeviceRecord,
    MqttBasic,
    Permission,
    PresharedKey,
    Revoked,
    Secret,
)
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import Desk, bad_request, body_of, json_reply
from gateway.dialects.thingsboard.admin.finder import Finder, device_words
from gateway.dialects.thingsboard.admin.words import EntityId, Version
from gateway.dialects.thingsboard.answers import encode_mqtt_basic
from gateway.dialects.thingsboard.payloads import strip_pem
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.inventory import Inventory
    from gateway.core.inventory_store import DeviceCredentialsRecord

MOST_CHARACTERS: Final = 4096
"""Of a token, client id, user name or password."""
MOST_CERTIFICATE_CHARACTERS: Final = 65_536
_LINE: Final = 64
_ID_TYPE: Final = "DEVICE_CREDENTIALS"

NO_TYPE: Final = "Device credentials type should be specified!"
NO_ID: Final = "Device credentials id should be specified!"
NOT_THERE: Final = "Unable to update non-existent device credentials!"
BAD_BASIC: Final = "Invalid credentials body for simple mqtt credentials!"
BASIC_EMPTY: Final = "Both mqtt client id and user name are empty!"
BASIC_PASSWORD: Final = "Password cannot be specified along with client id"  # noqa: S105


class CredentialsBody(Struct, rename="camel", kw_only=True):
    """Credentials to be given. `credentialsId` is the access token; of other kinds it is made of
    `credentialsValue`: a certificate as PEM, or the text of `{"clientId","userName","password"}`.
    """

    id: EntityId | None = None
    device_id: EntityId | None = None
    credentials_type: str | None = None
    credentials_id: str | None = None
    credentials_value: str | None = None
    version: Version | None = None

    def __repr__(self) -> str:
        return "CredentialsBody(***)"


class CredentialsAnswer(Struct, rename="camel", kw_only=True):
    """What a device must show. Its credentials have the device's own UUID: there is one set."""

    id: EntityId
    created_time: int
    device_id: EntityId
    credentials_type: str
    credentials_id: str
    credentials_value: str | None
    version: int

    def __repr__(self) -> str:
        return "CredentialsAnswer(***)"


class _Basic(Struct, rename="camel"):
    client_id: str | None = None
    user_name: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return "_Basic(***)"


_decode_basic = msgspec.json.Decoder(_Basic).decode


class CredentialsRoutes:
    def __init__(self, inventory: Inventory, finder: Finder) -> None:
        self._inventory = inventory
        self._finder = finder

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        needs = (Permission.SET_AUTH_TOKEN,)
        return (
            desk.route(
                "device.credentials",
                "GET /api/device/{deviceId}/credentials",
                self._show,
                needs=needs,
                operation=_SHOW,
            ),
            desk.route(
                "device.credentials.save",
                "POST /api/device/credentials",
                self._change,
                needs=needs,
                operation=_CHANGE,
            ),
        )

    async def _show(self, call: Call, actor: Actor) -> Reply:
        record = await self._finder.device(actor, call.params["deviceId"])
        return json_reply(_answer(record, await self._inventory.credentials(actor, record)))

    async def _change(self, call: Call, actor: Actor) -> Reply:
        body = body_of(call, CredentialsBody)
        if body.device_id is None:
            raise bad_request("Device id should be specified!")
        record = await self._finder.device(actor, body.device_id.id, change=True)
        if body.id is None or body.id.id.lower() != record.device.uuid:
            raise bad_request(NOT_THERE)
        with device_words():
            changed = await self._inventory.change_credentials(
                actor, record, credentials_of(body), version=body.version
            )
        return json_reply(_answer(record, changed))


def credentials_of(body: CredentialsBody) -> DeviceCredentials:
    """What a body describes. Raises `Trouble` (400), in the contract's words."""
    match body.credentials_type:
        case None | "":
            raise bad_request(NO_TYPE)
        case DeviceCredentialsType.ACCESS_TOKEN:
            return AccessToken(Secret(_given(body.credentials_id, "credentialsId", NO_ID)))
        case DeviceCredentialsType.MQTT_BASIC:
            return _basic(body.credentials_value)
        case DeviceCredentialsType.X509_CERTIFICATE:
            return _certificate(body.credentials_value)
        case _:
            raise bad_request("Device credentials of this type are not given here!")


def access_token(text: str) -> AccessToken:
    """A token of the query. Raises `Trouble` (400)."""
    return AccessToken(Secret(_given(text, "accessToken", NO_ID)))


def _given(text: str | None, field: str, missing: str) -> str:
    if text is None or not text.strip():
        raise bad_request(missing)
    return _plain(text, field)


def _plain(text: str, field: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise bad_request(f"{field} is longer than {MOST_CHARACTERS} characters")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise bad_request(f"{field} must not contain control characters!")
    return text


def _basic(value: str | None) -> MqttBasic:
    try:
        given = _decode_basic(value or "")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise bad_request(BAD_BASIC) from None
    client_id, username = given.client_id or "", given.user_name or ""
    if not client_id and not username:
        raise bad_request(BASIC_EMPTY)
    if given.password and not username:
        raise bad_request(BASIC_PASSWORD)
    return MqttBasic(
        client_id=_plain(client_id, "clientId"),
        username=_plain(username, "userName"),
        password=Secret(_plain(given.password or "", "password")),
    )


def _certificate(value: str | None) -> Certificate:
    text = strip_pem(value or "").strip()
    if not text:
        raise bad_request("Device credentials value should be specified!")
    if len(text) > MOST_CERTIFICATE_CHARACTERS:
        raise bad_request("credentialsValue is longer than a certificate may be")
    if not text.isascii() or not text.isprintable():
        raise bad_request("credentialsValue must not contain control characters!")
    return Certificate(text)


def _answer(record: DeviceRecord, known: DeviceCredentialsRecord) -> CredentialsAnswer:
    shown, value = _shown(known.credentials)
    return CredentialsAnswer(
        id=EntityId(record.device.uuid, _ID_TYPE),
        created_time=known.created_at,
        device_id=EntityId(record.device.uuid, "DEVICE"),
        credentials_type=known.credentials.type.value,
        credentials_id=shown,
        credentials_value=value,
        version=known.generation,
    )


def _shown(credentials: DeviceCredentials) -> tuple[str, str | None]:
    """The id, and the value where there is more to it."""
    shown = credentials.id.reveal()
    match credentials:
        case MqttBasic():
            return shown, encode_mqtt_basic(credentials).decode()
        case Certificate(text):
            return shown, _as_pem(text)
        case PresharedKey(identity, key):
            pair: dict[str, Any] = {"identity": identity, "key": key.reveal()}
            return shown, msgspec.json.encode(pair).decode()
        case AccessToken() | Revoked():
            return shown, None


def _as_pem(text: str) -> str:
    lines = "\n".join(text[at : at + _LINE] for at in range(0, len(text), _LINE))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


TAG: Final = "Device credentials"
_SHOW = Operation(
    summary="What a device must show",
    tag=TAG,
    answers=answers("Its credentials.", CredentialsAnswer, 400, 401, 403, 404),
)
_CHANGE = Operation(
    summary="Give a device other credentials",
    tag=TAG,
    about="Its open sessions are over. `version`: refused (409) when it has another one.",
    body=CredentialsBody,
    answers=answers("Those it has now.", CredentialsAnswer, 400, 401, 403, 404, 409),
)
