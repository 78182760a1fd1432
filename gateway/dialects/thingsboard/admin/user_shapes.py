"""Users as ThingsBoard's REST writes and reads them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.model import CUSTOMER_USER, TENANT_ADMIN, Organisation, Secret, User
from gateway.dialects.thingsboard.admin.desk import bad_request
from gateway.dialects.thingsboard.admin.device_shapes import read_object
from gateway.dialects.thingsboard.admin.tokens import authority_of, customer_uuid
from gateway.dialects.thingsboard.admin.words import EntityId, Version


class UserBody(Struct, rename="camel", kw_only=True):
    """A user to be saved: changed when it has an `id`; a name that is absent then stays.

    `authority` and `customerId` say where a new user stands. Two members are ours: `role` (that
    of the same name as the authority, when it is absent) and `password`.
    """

    id: EntityId | None = None
    email: str | None = None
    authority: str | None = None
    customer_id: EntityId | None = None
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    additional_info: dict[str, Any] | None = None
    role: str | None = None
    password: str | None = None
    version: Version | None = None

    def __repr__(self) -> str:
        return "UserBody(***)"


class UserAnswer(Struct, rename="camel", kw_only=True):
    """A user. `role` is what says what it may do."""

    id: EntityId
    created_time: int
    tenant_id: EntityId
    customer_id: EntityId
    email: str
    name: str
    authority: str
    role: str
    first_name: str
    last_name: str
    phone: str | None
    enabled: bool
    additional_info: dict[str, Any] | None
    version: int


def user_answer(user: User, stands: Organisation, root_uuid: str) -> UserAnswer:
    """`stands`: the user's organisation."""
    kept = read_object(user.info)
    phone, more = kept.get("phone"), kept.get("additional_info")
    return UserAnswer(
        id=EntityId(user.uuid, "USER"),
        created_time=user.created_at,
        tenant_id=EntityId(root_uuid, "TENANT"),
        customer_id=EntityId(customer_uuid(stands), "CUSTOMER"),
        email=user.email,
        name=user.email,
        authority=authority_of(stands),
        role=user.role,
        first_name=user.first_name,
        last_name=user.last_name,
        phone=phone if isinstance(phone, str) else None,
        enabled=user.enabled,
        additional_info=more if isinstance(more, dict) else None,
        version=user.version,
    )


def email_of(body: UserBody) -> str:
    if body.email is None or not body.email.strip():
        raise bad_request("User email should be specified!")
    return body.email


def authority_asked(body: UserBody) -> str:
    if body.authority not in (TENANT_ADMIN, CUSTOMER_USER):
        raise bad_request("User authority isn't defined!")
    return body.authority


def password_of(body: UserBody) -> Secret | None:
    return Secret(body.password) if body.password else None


def info_of(body: UserBody, before: str) -> str:
    """What is kept of a user beside its names; what the body leaves out stays."""
    kept = read_object(before)
    given = {"phone": body.phone, "additional_info": body.additional_info}
    changed = {name: value for name, value in given.items() if value is not None}
    return msgspec.json.encode({**kept, **changed}).decode() if changed else before
