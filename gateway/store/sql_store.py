"""`SqlStore`: the one implementation of the core's ports, over any `Driver`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from gateway.core.errors import CredentialsGone
from gateway.core.model import (
    AccessToken,
    Attributes,
    AttributesChange,
    AttributeScope,
    AttributesSelection,
    Device,
    DeviceProfile,
    Download,
    Event,
    FleetTicket,
    Notice,
    Package,
    PackageKind,
    Provisioned,
    ProvisionResult,
    Reading,
    RefusalReason,
    Refused,
    RpcCall,
    RpcState,
    Secret,
    Ticket,
    TicketKind,
    Value,
)
from gateway.core.ports import (
    KnownCredentials,
    NewChild,
    PresenceUpdate,
    TicketClaim,
)
from gateway.store.assignments import SaveDownloads
from gateway.store.attributes import (
    ChangeOwnAttributes,
    SaveAttributes,
    announced,
    may_announce,
)
from gateway.store.calls import MOST_WAITING, EndCalls, MarkCall
from gateway.store.children import EnterChild, child_from_row
from gateway.store.claims import OfferClaim, claim_digest
from gateway.store.decisions import (
    Probe,
    RecordEvent,
)
from gateway.store.driver import Driver, Transaction
from gateway.store.fleet_tickets import fleet_ticket_from_row
from gateway.store.identity import uuid7
from gateway.store.migrate import migrations
from gateway.store.notices import notice_from_row
from gateway.store.outside_names import fill_outside_names
from gateway.store.presence import NODE_LIVES_MS, EnterNode, SavePresence
from gateway.store.queries import listed
from gateway.store.readings import ForgetLatest, SaveReadings
from gateway.store.records import (
    call_from_row,
    package_from_row,
    profile_from_row,
)
from gateway.store.sql_births import BirthStore
from gateway.store.ticket_claims import ClaimTicket, TakeRotation, There
from gateway.store.ticket_uses import NoteUse
from gateway.store.tickets import holder_from_row, ticket_from_row
from gateway.store.values import from_columns
from gateway.store.vault import Vault
from gateway.store.writer import Decision

log = structlog.get_logger()

_MOST_TICKETS = 4096
"""Opened fleet tickets kept in memory."""
_FRESH_S = 0.01
"""How long an opened ticket is used before the database is asked whether it changed. The look-up
is a tenth of a provisioning; 10 ms is less than the command that changed it takes to return."""


_MOST_ATTRIBUTES = 10_000
"""Attributes of one scope in one answer; those asked for by name are all given."""
_VAULT_CHECK = b"gatehouse"


class _KeptTicket(msgspec.Struct):
    ticket: FleetTicket
    revision: int
    fresh_until: float


class SqlStore(BirthStore):
    """State in SQL. `writer` carries every change, the driver's look-ups carry every question."""

    def __init__(self, driver: Driver, vault: Vault, *, max_pending: int = 20_000) -> None:
        super().__init__(driver, vault, max_pending=max_pending)
        self._tickets: dict[str, _KeptTicket] = {}
        self._dropped_events = 0

    async def open(self) -> None:
        """Open, migrate, and see that the master key is the one this store was sealed with.

        Raises `StoreUnavailable`, and leaves nothing open then.
        """
        try:
            await self.driver.open()
            await self.driver.migrate(migrations(self.driver.database))
            await self._check_vault()
            await fill_outside_names(self.driver)
        except BaseException:
            await self.driver.close()
            raise
        self.writer.start()

    async def _check_vault(self) -> None:
        """A store made with one key and opened with another would refuse all its devices."""

        async def kept(tx: Transaction) -> bytes:
            sealed = self.vault.seal(_VAULT_CHECK, b"vault")
            await tx.fetch("insert_setting", "vault", sealed)
            return bytes((await tx.fetch("setting", "vault"))[0][0])

        self.vault.open(await self.driver.transact(kept), b"vault")

    async def close(self) -> None:
        """Commit what waits, then close."""
        await self.writer.close()
        await self.driver.close()

    async def probe(self) -> None:
        """Write something that changes nothing, durably. Raises when the store cannot."""
        await self.writer.submit(Probe())

    # ── provisioning ────────────────────────────────────────────────────────────────────────

    async def find_fleet_ticket(self, key: Secret) -> FleetTicket | None:
        text = key.reveal()
        kept = self._tickets.get(text)
        now = time.monotonic()
        if kept is not None and now < kept.fresh_until:
            return kept.ticket
        row = await self.driver.point("find_fleet_ticket", self.vault.digest(text))
        if row is None:
            self._tickets.pop(text, None)
            return None
        ticket_id, revision = row
        ticket: FleetTicket | None
        if kept is not None and kept.revision == revision and kept.ticket.id == ticket_id:
            ticket = kept.ticket
        else:
            ticket = await self.fleet_ticket(ticket_id)
        if ticket is not None:
            if len(self._tickets) >= _MOST_TICKETS:
                self._tickets.clear()
            self._tickets[text] = _KeptTicket(ticket, revision, now + _FRESH_S)
        return ticket

    def forget_tickets(self) -> None:
        """A ticket or profile was changed by this process: look again at once."""
        self._tickets.clear()

    async def fleet_ticket(self, ticket_id: int) -> FleetTicket | None:
        """The ticket, opened."""
        row = await self.driver.point("fleet_ticket", ticket_id)
        if row is None:
            return None
        return fleet_ticket_from_row(self.vault, row)

    async def note_use(self, ticket_id: int, at: int) -> None:
        self.writer.submit_unawaited(NoteUse(ticket_id, at))

    async def suspended(self, ticket_id: int, device_ids: Sequence[int]) -> list[int]:
        rows = await self.driver.rows("suspended_among", listed(device_ids), ticket_id)
        return [row[0] for row in rows]

    async def profiles_with(self, section: str) -> list[DeviceProfile]:
        profiles = [profile_from_row(row) for row in await self.driver.rows("profiles")]
        return [one for one in profiles if section in one.sections]

    async def find_ticket(self, token: Secret) -> Ticket | None:
        row = await self.driver.point("find_ticket", self.vault.digest(token.reveal()))
        return None if row is None else ticket_from_row(row)

    async def find_token(self, token: Secret) -> Device | Ticket | None:
        row = await self.driver.point("find_token", self.vault.digest(token.reveal()))
        if row is None:
            return None
        holder = holder_from_row(row)
        if row[-1] is not None and isinstance(holder, Device):
            await self.used(holder)  # to show a token is to use it
        return holder

    async def claim_ticket(self, claim: TicketClaim) -> ProvisionResult:
        digest = self.vault.digest(claim.token.reveal())
        decision: Decision[Device | There | RefusalReason]
        if claim.ticket is not None and claim.ticket.kind is TicketKind.ROTATE:
            decision = TakeRotation(claim, claim.ticket, digest)
        else:
            decision = ClaimTicket(claim, uuid7(claim.at), digest)
        result = await self.writer.submit(decision)
        if isinstance(result, RefusalReason):
            return Refused(result)
        again = isinstance(result, There)
        device = result.device if isinstance(result, There) else result
        return Provisioned(device, AccessToken(claim.token), again=again)

    async def record(self, event: Event) -> None:
        if not self.writer.submit_unawaited(RecordEvent(event)):
            self._dropped_events += 1
            if self._dropped_events & (self._dropped_events - 1) == 0:
                log.warning("store.events_dropped", so_far=self._dropped_events)

    # ── devices ─────────────────────────────────────────────────────────────────────────────

    async def known_device(self, device_id: int) -> KnownCredentials | None:
        """The device and its newest credentials."""
        row = await self.driver.point("known_by_id", device_id)
        return None if row is None else self.known_from_row(row)

    async def profile(self, profile_id: int) -> DeviceProfile | None:
        row = await self.driver.point("profile", profile_id)
        return None if row is None else profile_from_row(row)

    async def child(self, new: NewChild) -> Device | Refused:
        # Most are there already; only those that are not wait for a commit.
        row = await self.driver.point("child_named", new.gateway.organisation_id, new.name)
        if row is not None:
            return child_from_row(row, new.gateway)
        return await self.writer.submit(EnterChild(new, self.vault))

    async def offer_claim(self, device: Device, key: Secret, event: Event, expires_at: int) -> bool:
        digest = claim_digest(self.vault, device.id, key)
        return await self.writer.submit(OfferClaim(device, digest, event, expires_at))

    # ── readings and attributes ─────────────────────────────────────────────────────────────

    async def save_readings(self, device: Device, readings: Sequence[Reading]) -> None:
        if not (await self.writer.submit(SaveReadings(((device, readings),))))[0]:
            raise CredentialsGone

    async def save_many_readings(
        self, sent: Sequence[tuple[Device, Sequence[Reading]]]
    ) -> list[bool]:
        return await self.writer.submit(SaveReadings(sent))

    async def save_attributes(
        self, device: Device, scope: AttributeScope, values: Mapping[str, Value], at: int
    ) -> None:
        await self.writer.submit(
            SaveAttributes(device.id, device.credentials_row, scope, values, at)
        )

    async def change_own_attributes(
        self, device: Device, scope: AttributeScope, change: AttributesChange, at: int
    ) -> None:
        await self.writer.submit(ChangeOwnAttributes(device, scope, change, at))

    async def latest(self, device: Device, keys: Sequence[str] | None = None) -> list[Reading]:
        await self.writer.settled()
        if keys is None:
            rows = await self.driver.rows("latest", device.id)
        else:
            listed = msgspec.json.encode(keys).decode()
            rows = await self.driver.rows("latest_of_keys", device.id, listed)
        return [Reading(ts, key, from_columns(*columns)) for ts, key, *columns in rows]

    async def forget_latest(self, device: Device, keys: Sequence[str]) -> None:
        await self.writer.submit(ForgetLatest(device, keys))

    async def device_path(self, device_id: int) -> str:
        row = await self.driver.point("device_path", device_id)
        return "" if row is None else str(row[0])

    async def owner_email(self, device: Device) -> str:
        row = await self.driver.point("owner_email", device.id)
        return "" if row is None else str(row[0])

    async def attributes(self, device: Device, selection: AttributesSelection) -> Attributes:
        await self.writer.settled()
        if await self.driver.point("is_good_login", device.id, device.credentials_row) is None:
            raise CredentialsGone
        wanted = selection.shared
        shared = await self._scope(device.id, AttributeScope.SHARED, wanted)
        if wanted is None or may_announce(wanted):
            for key, (value, _) in (await self._announced(device)).items():
                if wanted is None or key in wanted:
                    shared[key] = value
        return Attributes(
            await self._scope(device.id, AttributeScope.CLIENT, selection.client), shared
        )

    async def _scope(
        self, device_id: int, scope: AttributeScope, wanted: tuple[str, ...] | None
    ) -> dict[str, Value]:
        if wanted == ():
            return {}
        if wanted is None:
            rows = await self.driver.rows("attributes", device_id, scope.value, _MOST_ATTRIBUTES)
        else:
            keys = msgspec.json.encode(wanted).decode()
            rows = await self.driver.rows("attributes_named", device_id, scope.value, keys)
        return {key: from_columns(*columns) for key, *columns in rows}

    async def _announced(self, device: Device) -> dict[str, tuple[Value, int]]:
        place = (device.id, device.profile_id)
        if await self.driver.point("has_package", *place) is None:
            return {}
        return announced(await self.driver.rows("packages_for", *place))

    # ── calls ───────────────────────────────────────────────────────────────────────────────

    async def waiting_calls(self, device_id: int, now: int) -> list[RpcCall]:
        """At most `MOST_WAITING` of them."""
        if await self.driver.point("has_waiting_call", device_id, now) is None:
            return []
        rows = await self.driver.rows("waiting_calls", device_id, now, MOST_WAITING)
        return [call_from_row(row) for row in rows]

    async def stored_call(self, call_id: int) -> RpcCall | None:
        row = await self.driver.point("stored_call", call_id)
        return None if row is None else call_from_row(row)

    async def mark_call(
        self, call_id: int, state: RpcState, *, response: str | None = None
    ) -> bool:
        return await self.writer.submit(MarkCall(call_id, state, response))

    async def end_calls(self, now: int) -> int:
        ended = 0
        # Asked first: no commit while there is nothing to end.
        while await self.driver.point("overdue_call", now) is not None:
            ended += await self.writer.submit(EndCalls(now))
        return ended

    # ── packages ────────────────────────────────────────────────────────────────────────────

    async def package_for(self, device: Device, kind: PackageKind) -> Package | None:
        row = await self.driver.point("package_for", device.id, device.profile_id, kind.value)
        return None if row is None else package_from_row(row)

    async def save_downloads(self, downloads: Mapping[int, Sequence[Download]]) -> None:
        if downloads:
            self.writer.submit_unawaited(SaveDownloads(downloads))

    # ── presence and notices ────────────────────────────────────────────────────────────────

    async def enter_node(self, now: int) -> int:
        return await self.writer.submit(EnterNode(now))

    async def save_presence(
        self, node: int, updates: Mapping[int, PresenceUpdate], now: int
    ) -> None:
        await self.writer.submit(SavePresence(node, updates, now))

    async def is_elsewhere(self, device_id: int, node: int, now: int) -> bool:
        since = now - NODE_LIVES_MS
        return await self.driver.point("elsewhere", device_id, node, since) is not None

    async def last_notice(self) -> int:
        row = await self.driver.point("last_notice")
        return 0 if row is None else int(row[0])

    async def notices(self, after_seq: int, limit: int) -> list[Notice]:
        if await self.last_notice() <= after_seq:
            return []
        rows = await self.driver.rows("notices", after_seq, limit)
        return [notice_from_row(row) for row in rows]
