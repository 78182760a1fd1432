"""Fleet secrets, for people with authority over their profiles: several for each, with bounds.

What is kept here is proven in `gateway.core.fleet_secrets`. A change is one transaction with its
event, and counts from the next request on.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final

from msgspec import structs

from gateway.core.errors import Cause, Conflict, Invalid
from gateway.core.fleet_secret_store import (
    NO_BOUNDS,
    Borne,
    Bounds,
    FleetSecretQuery,
    FleetSecretStore,
    NewFleetSecret,
)
from gateway.core.fleet_secrets import group_bytes
from gateway.core.model import (
    DEFAULT_LABEL,
    Actor,
    DeviceProfile,
    Event,
    EventKind,
    FleetTicket,
    Permission,
    ProvisionType,
    Secret,
)
from gateway.core.names import is_plain
from gateway.core.networks import check_network
from gateway.core.organisations import need
from gateway.core.ports import Clock, NewToken
from gateway.core.tickets import utc_text
from gateway.core.tokens import random_bytes

LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
OVERLAP_MS: Final = 7 * 86_400_000
MOST_OVERLAP_MS: Final = 3650 * 86_400_000
MOST_OF_A_PROFILE: Final = 100
"""Fleet secrets that are not revoked."""
MOST_NETWORKS: Final = 64
MOST_USES: Final = 10**12
FEWEST_CHARACTERS: Final = 8
"""Of a key or secret that somebody gives; those made here have 20 and more."""
MOST_CHARACTERS: Final = 255
_GROUP_BYTES: Final = 32
_LAST_MOMENT: Final = 253_402_300_800_000
"""The end of the year 9999."""
_MOST_STEM: Final = 58
_MOST_SHOWN: Final = 64
_NUMBER_BEHIND: Final = re.compile(r"-\d{1,3}$")


class FleetSecrets:
    """Adds, lists, rotates, bounds, revokes, quarantines and releases fleet secrets.

    A profile has one called `default` unless it was made without; that is the one of its file and
    of ThingsBoard's API. Raises `Forbidden` (PRODUCT_VIEW to look, PRODUCT_EDIT to change),
    `Invalid`, and `Conflict` GONE for what is out of sight or was revoked meanwhile.
    """

    def __init__(self, store: FleetSecretStore, *, clock: Clock, new_token: NewToken) -> None:
        self._store = store
        self._clock = clock
        self._new_token = new_token

    # ── looking ─────────────────────────────────────────────────────────────────────────────

    async def listed(
        self,
        actor: Actor,
        *,
        profile: DeviceProfile | None = None,
        label: str | None = None,
        after_id: int = 0,
        limit: int = 1000,
    ) -> list[FleetTicket]:
        """In the order they were made, the revoked ones too."""
        need(actor, Permission.PRODUCT_VIEW)
        return await self._store.secrets(
            FleetSecretQuery(
                path=actor.organisation.path,
                profile_id=None if profile is None else profile.id,
                label=label,
                after_id=after_id,
                limit=limit,
            )
        )

    async def find(self, actor: Actor, number: int) -> FleetTicket | None:
        """The one of that number, if it is in sight."""
        need(actor, Permission.PRODUCT_VIEW)
        return await self._store.secret_numbered(number, actor.organisation.path)

    async def blast_radius(
        self,
        actor: Actor,
        ticket: FleetTicket,
        *,
        since: int = 0,
        after_id: int = 0,
        limit: int = 1000,
    ) -> list[Borne]:
        """The devices that the secret bore, or admitted to their claim, since then (ms)."""
        need(actor, Permission.ORG_DEVICES_VIEW)
        await self._seen(actor, ticket)
        return await self._store.borne(ticket.id, since=since, after_id=after_id, limit=limit)

    async def count_borne(self, actor: Actor, ticket: FleetTicket, *, since: int = 0) -> int:
        """How many those are in all."""
        need(actor, Permission.ORG_DEVICES_VIEW)
        await self._seen(actor, ticket)
        return await self._store.count_borne(ticket.id, since)

    # ── adding and rotating ─────────────────────────────────────────────────────────────────

    async def add(
        self,
        actor: Actor,
        profile: DeviceProfile,
        label: str,
        *,
        bounds: Bounds = NO_BOUNDS,
        derived: bool = False,
        key: Secret | None = None,
        secret: Secret | None = None,
    ) -> FleetTicket:
        """One more pair for a profile. What is not given is made at random.

        Raises `KeyTaken`, and `Conflict` (NAME_TAKEN: the label; IN_USE: one too many).
        """
        need(actor, Permission.PRODUCT_EDIT)
        _prove_label(label)
        self._prove_bounds(bounds)
        for given in (key, secret):
            _prove_text(given)
        _prove_keyed(profile)
        new = self._new(actor, profile, label, bounds, EventKind.SECRET_ADD, derived=derived)
        new = structs.replace(new, key=key or new.key, secret=secret or new.secret)
        if derived:
            _prove_group(new.secret)
        return await self._store.add_secret(new)

    async def rotate(
        self,
        actor: Actor,
        ticket: FleetTicket,
        *,
        label: str = "",
        overlap_ms: int = OVERLAP_MS,
        expires_at: int | None = None,
    ) -> FleetTicket:
        """A new pair beside an old one, which ends after the overlap (0: at once).

        The new one is of the same networks and as many uses, which are counted anew, and derived
        if the old one was. Its label is `label`, else the old one with a number behind it.
        """
        need(actor, Permission.PRODUCT_EDIT)
        seen = await self._usable(actor, ticket)
        _prove_keyed(seen.profile)
        if not 0 <= overlap_ms <= MOST_OVERLAP_MS:
            raise Invalid("an overlap is 0 to 3650 days.")
        bounds = Bounds(expires_at=expires_at, max_uses=seen.max_uses, networks=seen.networks)
        self._prove_bounds(bounds)
        label = label or await self._next_label(actor, seen)
        _prove_label(label)
        kind, derived = EventKind.SECRET_ROTATE, seen.derived
        new = self._new(actor, seen.profile, label, bounds, kind, derived=derived)
        ends_at = new.event.at + overlap_ms
        detail = {**new.event.detail, "old": seen.label, "old until": utc_text(ends_at)}
        new = structs.replace(new, event=structs.replace(new.event, detail=detail))
        return await self._store.rotate_secret(seen, new, ends_at)

    async def _next_label(self, actor: Actor, ticket: FleetTicket) -> str:
        """`meter-2` after `meter`, `meter-3` after that; the first number that is free.

        A number behind a label that came of no rotation is part of it: `line-3-2` after `line-3`.
        """
        taken = {one.label for one in await self.listed(actor, profile=ticket.profile)}
        stem = _NUMBER_BEHIND.sub("", ticket.label)
        stem = (stem if stem in taken else ticket.label)[:_MOST_STEM]
        number = 2
        while f"{stem}-{number}" in taken:
            number += 1
        return f"{stem}-{number}"

    def _new(
        self,
        actor: Actor,
        profile: DeviceProfile,
        label: str,
        bounds: Bounds,
        kind: EventKind,
        *,
        derived: bool,
    ) -> NewFleetSecret:
        secret = self._new_token()
        if derived:
            secret = b64encode(random_bytes(_GROUP_BYTES)).decode("ascii")
        detail = {"label": label, **_told(bounds)}
        if derived:
            detail["derived"] = "yes"
        return NewFleetSecret(
            profile_id=profile.id,
            organisation_id=profile.organisation_id,
            label=label,
            key=Secret(self._new_token()),
            secret=Secret(secret),
            bounds=bounds,
            derived=derived,
            most=MOST_OF_A_PROFILE,
            event=self._event(actor, kind, profile, detail),
        )

    # ── changing ────────────────────────────────────────────────────────────────────────────

    async def bound(self, actor: Actor, ticket: FleetTicket, bounds: Bounds) -> None:
        """Give it other bounds than it has. The uses that were counted stay counted."""
        need(actor, Permission.PRODUCT_EDIT)
        await self._usable(actor, ticket)
        self._prove_bounds(bounds, living=False)
        detail = _told(bounds)
        event = self._about(actor, ticket, EventKind.SECRET_BOUND, detail)
        await self._store.bound_secret(ticket.id, bounds, event)

    async def revoke(self, actor: Actor, ticket: FleetTicket) -> None:
        """It admits nobody from now on, for good; what it bore stays as it is."""
        need(actor, Permission.PRODUCT_EDIT)
        await self._usable(actor, ticket)
        event = self._about(actor, ticket, EventKind.SECRET_REVOKE, {})
        await self._store.revoke_secret(ticket.id, event)

    async def quarantine(self, actor: Actor, ticket: FleetTicket, *, since: int = 0) -> int:
        """Suspend what it bore since then (ms; 0: all), and admit nobody; how many those are.

        Their credentials are refused and their sessions ended, until `release`.
        """
        need(actor, Permission.PRODUCT_EDIT)
        await self._seen(actor, ticket)
        if not 0 <= since < _LAST_MOMENT:
            raise Invalid("a quarantine begins at a time before the year 10000.")
        detail = {"since": utc_text(since) if since else "ever"}
        event = self._about(actor, ticket, EventKind.SECRET_QUARANTINE, detail)
        await self._store.quarantine_secret(ticket.id, since, event)
        return await self._store.count_borne(ticket.id, since)

    async def release(self, actor: Actor, ticket: FleetTicket) -> None:
        """End its quarantine: its devices are let in again, and so are new ones, if it admits any.

        Raises `Conflict` GONE when it is in none.
        """
        need(actor, Permission.PRODUCT_EDIT)
        await self._seen(actor, ticket)
        event = self._about(actor, ticket, EventKind.SECRET_RELEASE, {})
        if not await self._store.release_secret(ticket.id, event):
            raise Conflict(Cause.GONE, f"secret {ticket.label} is in no quarantine")

    async def _seen(self, actor: Actor, ticket: FleetTicket) -> FleetTicket:
        """As it is now. Raises `Conflict` GONE."""
        found = await self._store.secret_numbered(ticket.id, actor.organisation.path)
        if found is None:
            raise Conflict(Cause.GONE, "there is no such secret")
        return found

    async def _usable(self, actor: Actor, ticket: FleetTicket) -> FleetTicket:
        found = await self._seen(actor, ticket)
        if found.revoked_at is not None:
            raise Conflict(Cause.GONE, f"secret {found.label} was revoked")
        return found

    def _prove_bounds(self, bounds: Bounds, *, living: bool = True) -> None:
        """Raises `Invalid`. `living`: one that is over already is refused as well."""
        for at in (bounds.not_before, bounds.expires_at):
            if at is not None and not 0 <= at < _LAST_MOMENT:
                raise Invalid("a time is in milliseconds since 1970, before the year 10000.")
        begins, ends = bounds.not_before, bounds.expires_at
        if ends is not None and ends <= max(begins or 0, self._clock() if living else 0):
            raise Invalid("a secret ends after it begins, and in the future.")
        if bounds.max_uses is not None and not 0 < bounds.max_uses <= MOST_USES:
            raise Invalid(f"a secret has 1 to {MOST_USES} uses.")
        if len(bounds.networks) > MOST_NETWORKS:
            raise Invalid(f"a secret has at most {MOST_NETWORKS} networks.")
        for text in bounds.networks:
            _prove_network(text)

    def _about(
        self, actor: Actor, ticket: FleetTicket, kind: EventKind, detail: dict[str, str]
    ) -> Event:
        return self._event(actor, kind, ticket.profile, {"label": ticket.label, **detail})

    def _event(
        self, actor: Actor, kind: EventKind, profile: DeviceProfile, detail: dict[str, str]
    ) -> Event:
        return Event(
            kind=kind,
            at=self._clock(),
            peer=actor.peer,
            subject=profile.name,
            detail=detail,
            object=profile.uuid,
        )


def _told(bounds: Bounds) -> dict[str, str]:
    """Bounds, as events tell them."""
    told = {}
    if bounds.not_before is not None:
        told["from"] = utc_text(bounds.not_before)
    if bounds.expires_at is not None:
        told["until"] = utc_text(bounds.expires_at)
    if bounds.max_uses is not None:
        told["uses"] = str(bounds.max_uses)
    if bounds.networks:
        told["networks"] = " ".join(bounds.networks)
    return told


def _prove_keyed(profile: DeviceProfile) -> None:
    if profile.provision_type is ProvisionType.X509_CERTIFICATE_CHAIN:
        raise Invalid(
            f"profile {profile.name} admits factory certificates, so a key and secret would admit "
            "nobody. Choose a profile of another type."
        )


def _prove_label(label: str) -> None:
    if not LABEL.fullmatch(label):
        raise Invalid(
            "a label is 1 to 63 letters, digits, dots, underscores and hyphens, and begins with a "
            "letter or digit."
        )
    if label == DEFAULT_LABEL:
        raise Invalid(
            f"the label {DEFAULT_LABEL} is that of the pair a profile is made with; choose another."
        )


def _prove_network(text: str) -> None:
    try:
        check_network(text)
    except ValueError as exc:
        raise Invalid(f"{text[:_MOST_SHOWN]!r} is no network: {exc}.") from None


def _prove_text(given: Secret | None) -> None:
    if given is None:
        return
    text = given.reveal()
    fits = FEWEST_CHARACTERS <= len(text) <= MOST_CHARACTERS and is_plain(text)
    if not fits or text != text.strip():
        raise Invalid(
            f"a key or secret is {FEWEST_CHARACTERS} to {MOST_CHARACTERS} characters, without "
            "line breaks or outer spaces."
        )


def _prove_group(secret: Secret) -> None:
    try:
        group_bytes(secret)
    except ValueError as exc:
        raise Invalid(f"{exc}; `openssl rand -base64 32` makes one.") from None
