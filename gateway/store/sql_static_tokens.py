"""`SqlStaticTokens`: what pairs of static tokens need, in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.core.model import (
    AccessToken,
    DeviceProfile,
    Event,
    Organisation,
    RefusalReason,
    Secret,
    User,
)
from gateway.core.static_token_store import (
    NewPair,
    NewPairs,
    PairQuery,
    StaticClaim,
    StaticToken,
    StaticTokenRecord,
)
from gateway.store.driver import Row
from gateway.store.logins import kept_login
from gateway.store.people_rows import organisation_from_row, user_from_row
from gateway.store.sql_people import at_or_below
from gateway.store.sql_store import SqlStore
from gateway.store.static_tokens import (
    ClaimPair,
    IssuePairs,
    KeptPair,
    RevokePair,
    UnclaimPair,
    pair_from_row,
)


class SqlStaticTokens:
    """Implements `core.static_token_store.StaticTokenStore` beside `SqlStore`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._driver = store.driver
        self._writer = store.writer

    # ── changes ─────────────────────────────────────────────────────────────────────────────

    async def issue_pairs(self, new: NewPairs) -> list[StaticToken]:
        return await self._writer.submit(IssuePairs(new, [self._kept(one) for one in new.pairs]))

    def _kept(self, new: NewPair) -> KeptPair:
        vault, digest = self._store.vault, self._digest(new.claim)
        sealed = vault.seal(new.claim.reveal().encode(), digest)
        return KeptPair(digest, sealed, kept_login(vault, AccessToken(new.token)))

    def _digest(self, claim: Secret) -> bytes:
        """What a claim token is found by: another than that of a device's token."""
        return self._store.vault.digest(f"static claim {claim.reveal()}")

    async def claim_pair(self, claim: StaticClaim) -> StaticToken | RefusalReason:
        return await self._writer.submit(ClaimPair(claim, self._digest(claim.claim)))

    async def unclaim_pair(self, pair: StaticToken, event: Event) -> bool:
        return await self._writer.submit(UnclaimPair(pair, event))

    async def revoke_pair(self, pair: StaticToken, event: Event) -> bool:
        return await self._writer.submit(RevokePair(pair, event))

    async def record(self, event: Event) -> None:
        await self._store.record(event)

    # ── looking ─────────────────────────────────────────────────────────────────────────────

    async def pair_by_claim(self, claim: Secret) -> StaticTokenRecord | None:
        return await self._one("static_token_claimed_by", self._digest(claim))

    async def pair_of_device(self, device_id: int) -> StaticTokenRecord | None:
        return await self._one("static_token_for_device", device_id)

    async def pair(self, number: int, path: str) -> StaticTokenRecord | None:
        return await self._one("static_token_numbered", number, at_or_below(path))

    async def _one(self, name: str, *params: Any) -> StaticTokenRecord | None:
        row = await self._driver.point(name, *params)
        return None if row is None else self._record(row)

    async def pairs(self, query: PairQuery) -> Sequence[StaticTokenRecord]:
        rows = await self._driver.rows("static_tokens", *_where(query), query.limit, query.skip)
        return [self._record(row) for row in rows]

    async def count_pairs(self, query: PairQuery) -> int:
        return int((await self._driver.rows("count_static_tokens", *_where(query)))[0][0])

    def _record(self, row: Row) -> StaticTokenRecord:
        """A row of `static_token_record`."""
        digest, sealed, path, organisation, profile, holder_path, holder, owner, device = row[8:]
        return StaticTokenRecord(
            pair=pair_from_row(row),
            claim=Secret(self._store.vault.open(bytes(sealed), bytes(digest)).decode()),
            path=path,
            organisation_name=organisation,
            profile_name=profile,
            holder_path=holder_path or "",
            holder_name=holder or "",
            owner_email=owner or "",
            device_name=device or "",
        )

    async def profile(self, profile_id: int) -> DeviceProfile | None:
        return await self._store.profile(profile_id)

    async def organisation_numbered(self, number: int) -> Organisation | None:
        row = await self._driver.point("organisation_by_number", number)
        return None if row is None else organisation_from_row(row)

    async def user_numbered(self, number: int) -> User | None:
        row = await self._driver.point("user_by_number", number)
        return None if row is None else user_from_row(row)


def _where(query: PairQuery) -> tuple[str, int, str, int]:
    path = at_or_below(query.path) if query.below else query.path
    state = "" if query.state is None else query.state.value
    return path, query.profile_id or 0, state, query.after_id
