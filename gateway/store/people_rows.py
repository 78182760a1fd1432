"""Rows of people as core types, and back."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.core.model import (
    BUILT_IN_ROLES,
    ApiKey,
    Organisation,
    Permission,
    Role,
    Secret,
    User,
)
from gateway.core.people_store import KnownUser
from gateway.store.driver import Row
from gateway.store.identity import uuid_text

USER_COLUMNS = 13
KNOWN_COLUMNS = 23
"""Of a user with its organisation, its password and the permissions of a custom role."""

_names = msgspec.json.Decoder(list[str])
_PERMISSIONS = {one.value: one for one in Permission}
_NONE: frozenset[Permission] = frozenset()


def permissions_text(permissions: Iterable[Permission]) -> str:
    """A JSON list in the order of the alphabet."""
    return msgspec.json.encode(sorted(one.value for one in permissions)).decode()


def permissions_from(text: str | None) -> frozenset[Permission]:
    """The inverse; what another version wrote and this one does not know is left out."""
    if text is None:
        return _NONE
    known = (_PERMISSIONS.get(name) for name in _names.decode(text))
    return frozenset(one for one in known if one is not None)


def organisation_from_row(row: Row) -> Organisation:
    number, identity, name, path, parent_id, created_at, info, version = row
    return Organisation(
        id=number,
        uuid=uuid_text(identity),
        name=name,
        path=path,
        parent_id=parent_id,
        created_at=created_at,
        info=info,
        version=version,
    )


def user_from_row(row: Row) -> User:
    number, identity, organisation_id, email, role, first_name, last_name, enabled = row[:8]
    password_until, last_login_at, created_at, info, version = row[8:]
    return User(
        id=number,
        uuid=uuid_text(identity),
        organisation_id=organisation_id,
        email=email,
        role=role,
        first_name=first_name,
        last_name=last_name,
        enabled=bool(enabled),
        password_until=password_until,
        last_login_at=last_login_at,
        created_at=created_at,
        info=info,
        version=version,
    )


def known_from_row(row: Row) -> KnownUser:
    """The first `KNOWN_COLUMNS` of `known_user`. A role that is gone allows nothing."""
    user = user_from_row(row[:USER_COLUMNS])
    *organisation, password, custom = row[USER_COLUMNS:KNOWN_COLUMNS]
    built_in = BUILT_IN_ROLES.get(user.role)
    return KnownUser(
        user=user,
        organisation=organisation_from_row(tuple(organisation)),
        permissions=permissions_from(custom) if built_in is None else built_in,
        password=Secret(password) if password else None,
    )


def role_from_row(row: Row) -> Role:
    number, identity, organisation_id, name, permissions, created_at, version = row
    return Role(
        id=number,
        uuid=uuid_text(identity),
        organisation_id=organisation_id,
        name=name,
        permissions=permissions_from(permissions),
        created_at=created_at,
        version=version,
    )


def key_from_row(row: Row) -> ApiKey:
    number, identity, user_id, label, permissions, created_at, expires_at, last_used_at = row
    return ApiKey(
        id=number,
        uuid=uuid_text(identity),
        user_id=user_id,
        label=label,
        permissions=None if permissions is None else permissions_from(permissions),
        created_at=created_at,
        expires_at=expires_at,
        last_used_at=last_used_at,
    )
