"""Who may come, what a newborn gets, and what its answer says: settings of a profile, all off.

A profile that says nothing of these has `PLAIN_POLICY`, and its devices notice nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

MINUTE_S = 60
RETRY_WINDOW_S = 15 * MINUTE_S


class WithoutNonce(StrEnum):
    """Who may repeat a request that binds itself to nothing."""

    NEVER = "never"
    """Nobody: exactly ThingsBoard."""
    SAME_ADDRESS = "same-address"
    """Who asks from the IP address of the first request."""
    UNTIL_FIRST_USE = "until-first-use"
    """Whoever has the fleet's secret, until the credential was used."""


class Reprovisioning(StrEnum):
    """What a device that was provisioned before gets when it asks again, with a proof."""

    NEVER = "never"
    SAME_IDENTITY = "same_identity_new_credential"
    """Another credential; the old one is gone at the first use of the new."""
    RESET = "reset"
    """The same, and what is stored of it (attributes, readings) is forgotten."""
    APPROVAL = "approval"
    """The same as SAME_IDENTITY, once an operator said yes."""


class OnFailure(StrEnum):
    """What a hook that does not answer in time stands for."""

    DENY = "deny"
    ALLOW = "allow"


class Admission(Struct, frozen=True, kw_only=True):
    """Who may come, of those who know the secret.

    `allow`, `deny`: patterns of names (`*`, `?`; a text that begins with `^` is a regular
    expression of RE2), of which one must, or none may, fit. `allow_list`: names, serial numbers and
    MACs are looked up in the profile's list, and one must be there; its deny-list counts always.
    `networks`: prefixes (`10.0.0.0/8`) the address must be in. `opens_at`, `closes_at`: ms, when
    provisioning begins and ends. `hours`: `Mon-Fri 07:00-19:00 Europe/Berlin`, one of which it must
    be. `max_devices`: most of this profile, `max_devices_in_organisation`: most of its
    organisation. `approval`: a newcomer waits until an operator says yes, and is told to come again
    after `approval_backoff_s`.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    allow_list: bool = False
    networks: tuple[str, ...] = ()
    opens_at: int | None = None
    closes_at: int | None = None
    hours: tuple[str, ...] = ()
    max_devices: int | None = None
    max_devices_in_organisation: int | None = None
    approval: bool = False
    approval_backoff_s: int = MINUTE_S


class BirthSettings(Struct, frozen=True, kw_only=True):
    """What a newborn begins with.

    Texts may hold `{name}`, `{serial}`, `{mac}` and `{hardware.KEY}`. `shared` and `server` are
    attributes; `customer`, `groups` and `label` are what it is put under; `firmware` and `software`
    name the package it is to run (`TITLE VERSION`). `expires_after_s`: it is removed by itself so
    long after its birth (burn-in); None: it stays.
    """

    shared: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    customer: str = ""
    groups: tuple[str, ...] = ()
    label: str = ""
    firmware: str = ""
    software: str = ""
    expires_after_s: int | None = None


class AnswerMembers(Struct, frozen=True, kw_only=True):
    """Members a successful answer has besides ThingsBoard's; all off is its exact shape.

    `servers`: addresses by wire (`{"mqtts": "mqtts://gate.example:8883"}`), given as `servers`.
    `ca_certificate`: PEM, given as `caCertificate`.
    """

    device_id: bool = False
    device_name: bool = False
    server_time: bool = False
    servers: Mapping[str, str] = field(default_factory=dict)
    ca_certificate: str = ""


class HookRule(Struct, frozen=True, kw_only=True):
    """Somebody else decides before a birth, or hears of it after.

    Either `url` (called with a body signed by the secret in the environment variable `secret_env`)
    or `entry_point` (`package.module:function`, of this process). `deadline_ms` and `on_failure`
    count before a birth; `events` are the kinds an after-hook hears of.
    """

    url: str = ""
    secret_env: str = ""
    entry_point: str = ""
    deadline_ms: int = 2000
    on_failure: OnFailure = OnFailure.DENY
    events: tuple[str, ...] = ("device:provision",)


class Policy(Struct, frozen=True, kw_only=True):
    """All of a profile's settings about coming into being.

    `retry_window_s`: how long the same request gets the same answer, 0: never. `reprovisioning`
    with `reprovisioning_limit`, a rate per device. `detailed_refusals`: who proved the secret is
    told why it was refused. `before`, `after`: hooks.
    """

    retry_window_s: int = RETRY_WINDOW_S
    retry_without_nonce: WithoutNonce = WithoutNonce.NEVER
    reprovisioning: Reprovisioning = Reprovisioning.NEVER
    reprovisioning_limit: str = "3:86400"
    detailed_refusals: bool = False
    admission: Admission = Admission()
    newborn: BirthSettings = BirthSettings()
    answer: AnswerMembers = AnswerMembers()
    before: HookRule | None = None
    after: HookRule | None = None


PLAIN_POLICY = Policy()
