"""What a profile says of coming into being: who may come, retries, what a newborn gets, hooks.

The same settings may stand in a profile file and in `profileData.gatehouse` of the REST API: both
are proven here, before anything is saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.core.model import (
    PLAIN_POLICY,
    Admission,
    AnswerMembers,
    BirthSettings,
    HookRule,
    OnFailure,
    Policy,
    Reprovisioning,
    WithoutNonce,
)
from gateway.core.networks import check_network
from gateway.core.opening_hours import check_hours
from gateway.core.spelling import nearest
from gateway.policy_proofs import (
    check_addresses,
    check_attributes,
    check_certificate,
    check_event_kind,
    check_filled,
    check_filled_package,
    check_life,
    check_patterns,
    check_time,
    check_url,
    check_window,
    each,
    ms_of,
    seconds_of,
)
from gateway.toml_lines import RateText, TomlFile, plain, read_table, settings_of

ADMISSION, BIRTH, ANSWER, HOOKS = "admission", "birth", "answer", "hooks"
TABLES = (ADMISSION, BIRTH, ANSWER, HOOKS)

_Text = Annotated[str, Meta(max_length=255, extra={"wants": "text of at most 255 characters"})]
_Lasting = Annotated[
    str, Meta(extra={"wants": 'how long, as in "15m"', "example": "15m", "proof": check_window})
]
_Moment = Annotated[
    str,
    Meta(
        extra={
            "wants": "a time with its zone in quotes",
            "example": "2026-12-01T07:00:00+01:00",
            "proof": check_time,
        }
    ),
]
_Count = Annotated[int, Meta(ge=1, le=2**31 - 1, extra={"example": 10_000})]


class _Plain(Struct, frozen=True, kw_only=True):
    """The keys that stand beside `provision_type`."""

    retry_window: _Lasting = "15m"
    retry_without_nonce: WithoutNonce = WithoutNonce.NEVER
    reprovisioning: Reprovisioning = Reprovisioning.NEVER
    reprovisioning_limit: RateText = PLAIN_POLICY.reprovisioning_limit
    detailed_refusals: bool = False


class _Admission(Struct, frozen=True, kw_only=True):
    allow: Annotated[
        tuple[str, ...],
        Meta(
            extra={
                "wants": "a list of patterns of names",
                "example": ["WM-*"],
                "proof": check_patterns,
            }
        ),
    ] = ()
    deny: Annotated[
        tuple[str, ...],
        Meta(
            extra={
                "wants": "a list of patterns of names",
                "example": ["*-test"],
                "proof": check_patterns,
            }
        ),
    ] = ()
    allow_list: bool = False
    networks: Annotated[
        tuple[str, ...],
        Meta(
            extra={
                "wants": "a list of networks",
                "example": ["10.0.0.0/8"],
                "proof": each(check_network),
            }
        ),
    ] = ()
    opens_at: _Moment = ""
    closes_at: _Moment = ""
    hours: Annotated[
        tuple[str, ...],
        Meta(
            extra={
                "wants": "a list of days and hours",
                "example": ["Mon-Fri 07:00-19:00 Europe/Berlin"],
                "proof": each(check_hours),
            }
        ),
    ] = ()
    max_devices: _Count = 1
    max_devices_in_organisation: _Count = 1
    approval: bool = False
    approval_backoff_s: Annotated[int, Meta(ge=1, le=86_400)] = 60


_Package = Annotated[
    str,
    Meta(
        max_length=255,
        extra={
            "wants": "a package by its title and version",
            "example": "meter-firmware 2.1",
            "proof": check_filled_package,
        },
    ),
]


class _Birth(Struct, frozen=True, kw_only=True):
    shared: Annotated[
        dict[str, bool | int | float | str],
        Meta(
            extra={
                "wants": "a table of attributes",
                "example": {"site": "hall-3"},
                "proof": check_attributes,
            }
        ),
    ]
    server: Annotated[
        dict[str, bool | int | float | str],
        Meta(
            extra={
                "wants": "a table of attributes",
                "example": {"batch": "{hardware.batch}"},
                "proof": check_attributes,
            }
        ),
    ]
    customer: Annotated[
        str, Meta(max_length=255, extra={"wants": "a customer's name", "proof": check_filled})
    ] = ""
    groups: Annotated[
        tuple[str, ...],
        Meta(
            extra={
                "wants": "a list of groups",
                "example": ["meters"],
                "proof": each(check_filled, 20),
            }
        ),
    ] = ()
    label: Annotated[
        str, Meta(max_length=255, extra={"wants": "a device's label", "proof": check_filled})
    ] = ""
    firmware: _Package = ""
    software: _Package = ""
    expires_after: Annotated[
        str, Meta(extra={"wants": 'how long, as in "3d"', "example": "3d", "proof": check_life})
    ] = ""


class _Answer(Struct, frozen=True, kw_only=True):
    device_id: bool = False
    device_name: bool = False
    server_time: bool = False
    servers: Annotated[
        dict[str, _Text],
        Meta(
            extra={
                "wants": "a table of addresses",
                "example": {"mqtts": "mqtts://gate.example:8883"},
                "proof": check_addresses,
            }
        ),
    ]
    ca_certificate: Annotated[
        str,
        Meta(
            max_length=65_536,
            pattern=r"\A\s*-----BEGIN CERTIFICATE-----",
            extra={
                "wants": 'PEM, or { file = "NAME" }',
                "hidden": True,
                "proof": check_certificate,
            },
        ),
    ] = ""


_Url = Annotated[
    str,
    Meta(
        max_length=2048,
        pattern=r"\Ahttps?://[^\s@#\x00-\x1f\x7f]+\Z",
        extra={
            "wants": "an http or https address without user name and password",
            "example": "https://erp.example/hooks/birth",
            "hidden": True,
            "proof": check_url,
        },
    ),
]
_Variable = Annotated[
    str,
    Meta(
        pattern=r"\A(?!GATEHOUSE_(?!HOOK))[A-Z_][A-Z0-9_]{0,127}\Z",
        extra={
            "wants": "the name of an environment variable that holds no secret of ours",
            "example": "BIRTH_HOOK_SECRET",
        },
    ),
]
_EntryPoint = Annotated[
    str,
    Meta(
        max_length=255,
        pattern=r"\A[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z",
        extra={"wants": "a function as PACKAGE.MODULE:NAME", "example": "fleet_rules:before"},
    ),
]


class _Before(Struct, frozen=True, kw_only=True):
    url: _Url = ""
    secret_env: _Variable = ""
    entry_point: _EntryPoint = ""
    deadline_ms: Annotated[int, Meta(ge=50, le=8000)] = 2000
    on_failure: OnFailure = OnFailure.DENY


class _After(Struct, frozen=True, kw_only=True):
    url: _Url = ""
    secret_env: _Variable = ""
    entry_point: _EntryPoint = ""
    events: Annotated[
        tuple[str, ...],
        Meta(
            extra={
                "wants": "a list of kinds of events",
                "example": ["device:provision"],
                "proof": each(check_event_kind),
            }
        ),
    ] = ("device:provision",)


KEYS: tuple[str, ...] = (*settings_of(_Plain), *TABLES)
"""The keys of a profile that are read here."""


def read_policy(file: TomlFile, data: Mapping[str, Any]) -> Policy:
    """The policy of a profile; `data` is its `file`'s, with the text of files it names.

    Raises `ConfigError`.
    """
    beside = read_table(file, (), {k: v for k, v in data.items() if k not in TABLES}, _Plain)
    window = beside.pop("retry_window", None)
    if window is not None:
        beside["retry_window_s"] = seconds_of(window)
    hooks = _table(file, data, HOOKS)
    for name in hooks:
        if name not in ("before", "after"):
            wrong = f"[hooks] has no `{plain(name)}`."
            raise file.fault((HOOKS, name), wrong, nearest(name, ("before", "after")))
    policy = Policy(
        **beside,
        admission=_admission(file, _read(file, data, ADMISSION, _Admission)),
        newborn=_newborn(_read(file, data, BIRTH, _Birth)),
        answer=AnswerMembers(**_read(file, data, ANSWER, _Answer)),
        before=_hook(file, hooks, "before", _Before),
        after=_hook(file, hooks, "after", _After),
    )
    return PLAIN_POLICY if policy == PLAIN_POLICY else policy


def _read(
    file: TomlFile, data: Mapping[str, Any], name: str, shape: type[Struct]
) -> dict[str, Any]:
    return read_table(file, (name,), _table(file, data, name), shape)


def _table(file: TomlFile, data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, dict):
        raise file.fault((name,), f"`{name}` is a section.", f"Write it as `[{name}]`.")
    return table


def _admission(file: TomlFile, values: dict[str, Any]) -> Admission:
    for key in ("opens_at", "closes_at"):
        if key in values:
            values[key] = ms_of(values[key])
    admission = Admission(**values)
    opens_at, closes_at = admission.opens_at, admission.closes_at
    if opens_at is not None and closes_at is not None and closes_at <= opens_at:
        wrong = "[admission] closes_at is not after opens_at: nobody could come."
        raise file.fault((ADMISSION, "closes_at"), wrong, "Write a later time.")
    return admission


def _newborn(values: dict[str, Any]) -> BirthSettings:
    if "expires_after" in values:
        values["expires_after_s"] = seconds_of(values.pop("expires_after"))
    return BirthSettings(**values)


def _hook(
    file: TomlFile, hooks: Mapping[str, Any], name: str, shape: type[Struct]
) -> HookRule | None:
    """One hook: somebody to ask, and a secret where that is elsewhere."""
    if name not in hooks:
        return None
    where = (HOOKS, name)
    values = read_table(file, where, _table(file, hooks, name), shape)
    if bool(values.get("url")) == bool(values.get("entry_point")):
        raise file.fault(
            where, f"[hooks.{name}] needs a url or an entry_point, and not both.", "Write one."
        )
    if values.get("url") and not values.get("secret_env"):
        raise file.fault(
            where,
            f"[hooks.{name}] secret_env is missing: what is sent is signed.",
            'Write `secret_env = "BIRTH_HOOK_SECRET"`, and set that variable.',
        )
    return HookRule(**values)
