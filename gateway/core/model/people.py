"""The people who run the fleet: organisations, users, what they may do, and who acts."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct

from gateway.core.model.peers import Peer


class Permission(StrEnum):
    """What a role may allow. The names are Blynk's where Blynk has one.

    `OWN_` is about devices whose owner the user is, `ORG_` about all devices of the user's
    organisation and of those below it.
    """

    PROVISION_DEVICES = "PROVISION_DEVICES"
    ORG_VIEW = "ORG_VIEW"
    ORG_CREATE = "ORG_CREATE"
    ORG_EDIT = "ORG_EDIT"
    ORG_DELETE = "ORG_DELETE"
    ORG_VIEW_USERS = "ORG_VIEW_USERS"
    ORG_INVITE_USERS = "ORG_INVITE_USERS"
    ORG_EDIT_USERS = "ORG_EDIT_USERS"
    ORG_DELETE_USERS = "ORG_DELETE_USERS"
    ROLE_VIEW = "ROLE_VIEW"
    ROLE_EDIT = "ROLE_EDIT"
    PRODUCT_VIEW = "PRODUCT_VIEW"
    """Device profiles, with their fleet secrets."""
    PRODUCT_EDIT = "PRODUCT_EDIT"
    OWN_DEVICES_VIEW = "OWN_DEVICES_VIEW"
    OWN_DEVICES_EDIT = "OWN_DEVICES_EDIT"
    OWN_DEVICES_DELETE = "OWN_DEVICES_DELETE"
    ORG_DEVICES_CREATE = "ORG_DEVICES_CREATE"
    ORG_DEVICES_VIEW = "ORG_DEVICES_VIEW"
    ORG_DEVICES_EDIT = "ORG_DEVICES_EDIT"
    ORG_DEVICES_DELETE = "ORG_DEVICES_DELETE"
    ORG_DEVICES_SHARE = "ORG_DEVICES_SHARE"
    """Assign devices to customers, and take them back."""
    DEVICES_CLAIM = "DEVICES_CLAIM"
    SET_AUTH_TOKEN = "SET_AUTH_TOKEN"  # noqa: S105
    """See and change devices' credentials."""
    RPC_CALL = "RPC_CALL"
    AUDIT_VIEW = "AUDIT_VIEW"
    MANAGE_STATIC_TOKENS = "MANAGE_STATIC_TOKENS"


TENANT_ADMIN: Final = "TENANT_ADMIN"
CUSTOMER_USER: Final = "CUSTOMER_USER"

BUILT_IN_ROLES: Final[Mapping[str, frozenset[Permission]]] = {
    TENANT_ADMIN: frozenset(Permission),
    CUSTOMER_USER: frozenset(
        {
            Permission.OWN_DEVICES_VIEW,
            Permission.OWN_DEVICES_EDIT,
            Permission.ORG_DEVICES_VIEW,
            Permission.ORG_DEVICES_EDIT,
            Permission.ORG_VIEW,
            Permission.DEVICES_CLAIM,
            Permission.SET_AUTH_TOKEN,
            Permission.RPC_CALL,
        }
    ),
}
"""Roles that are always there and cannot be changed. A role's permissions count in its user's
organisation and below it, whatever its name: TENANT_ADMIN of a customer rules that customer."""


class Organisation(Struct, frozen=True, kw_only=True):
    """One node of the tree. The root is ThingsBoard's tenant; all below it are customers.

    `path` is the numbers from the root down to it (`/1/7/`). `info` is JSON, unread by the core:
    contact data, `additionalInfo`.
    """

    id: int
    uuid: str
    name: str
    path: str
    parent_id: int | None = None
    created_at: int = 0
    info: str = "{}"
    version: int = 1

    def has_below(self, other: Organisation) -> bool:
        """Whether `other` is this one, or anywhere below it."""
        return other.path.startswith(self.path)


class Role(Struct, frozen=True, kw_only=True):
    """A named set of permissions. Built-in ones have no number and belong to nobody."""

    name: str
    permissions: frozenset[Permission]
    id: int = 0
    uuid: str = ""
    organisation_id: int | None = None
    created_at: int = 0
    version: int = 1


class User(Struct, frozen=True, kw_only=True):
    """Somebody who may log in. `password_until`: an initial password is good so long (ms)."""

    id: int
    uuid: str
    organisation_id: int
    email: str
    role: str
    first_name: str = ""
    last_name: str = ""
    enabled: bool = True
    password_until: int | None = None
    last_login_at: int | None = None
    created_at: int = 0
    info: str = "{}"
    version: int = 1


class ApiKey(Struct, frozen=True, kw_only=True):
    """A key for scripts, which acts as its user. The key itself is kept as a digest alone.

    `permissions` None: all of the user's; else only those of them that it names.
    """

    id: int
    uuid: str
    user_id: int
    label: str
    permissions: frozenset[Permission] | None = None
    created_at: int = 0
    expires_at: int | None = None
    last_used_at: int | None = None


class Actor(Struct, frozen=True, kw_only=True):
    """Who does something, where they stand in the tree, and what they may do.

    `peer` is the author of every event (`Peer.actor` is set). `user` is None for the operator of
    a shell on this machine. `session` is the id of the login (UUID), "" with an API key.
    """

    peer: Peer
    organisation: Organisation
    permissions: frozenset[Permission]
    user: User | None = None
    session: str = ""

    def may(self, *wanted: Permission) -> bool:
        """Whether one of `wanted` is allowed."""
        return not self.permissions.isdisjoint(wanted)

    @property
    def is_root(self) -> bool:
        """Whether nothing is out of sight."""
        return self.organisation.parent_id is None

    @property
    def owner_id(self) -> int:
        """The number by which devices are this person's own; 0 is nobody's."""
        return self.user.id if self.user is not None else 0


class DeviceGroup(Struct, frozen=True, kw_only=True):
    """Devices under one name, made on first mention. A device may be in several."""

    id: int
    uuid: str
    organisation_id: int
    name: str
    created_at: int = 0
    devices: int = 0
