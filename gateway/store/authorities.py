"""Authorities of ours: their certificates, and their keys, sealed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.errors import GatehouseError
from gateway.core.model import Event
from gateway.core.pki.model import Authority, AuthorityRole
from gateway.store.driver import Row, Transaction
from gateway.store.events import tell
from gateway.store.vault import Vault
from gateway.store.writer import SingleDecision


class RoleTaken(GatehouseError):
    """A role has an active authority already. It undoes what the decision wrote so far."""


def sealed_key(vault: Vault, authority: Authority) -> bytes | None:
    """The `sealed_key` column: the key opens beside its own certificate alone."""
    if authority.key is None:
        return None
    return vault.seal(authority.key, _bound_to(authority.certificate))


def authority_from_row(vault: Vault, row: Row) -> Authority:
    """A row of `authorities`. Raises `StoreUnavailable` when the seal does not open."""
    number, role, certificate, sealed, active, created_at = row
    return Authority(
        id=number,
        role=AuthorityRole(role),
        certificate=certificate,
        key=None if sealed is None else vault.open(sealed, _bound_to(certificate)),
        active=bool(active),
        created_at=created_at,
    )


def _bound_to(certificate: bytes) -> bytes:
    return b"authority " + certificate


class AddAuthorities(SingleDecision[list[Authority]]):
    """Each becomes the active one of its role; the unique index decides. Raises `RoleTaken`.

    `keys` are theirs, sealed.
    """

    __slots__ = ("event", "keys", "new", "replaces")

    def __init__(
        self,
        new: Sequence[Authority],
        keys: Sequence[bytes | None],
        event: Event,
        replaces: Sequence[AuthorityRole],
    ) -> None:
        self.new = new
        self.keys = keys
        self.event = event
        self.replaces = replaces

    async def decide(self, tx: Transaction) -> list[Authority]:
        for role in self.replaces:
            await tx.fetch("retire_authority", role.value)
        last = (await tx.fetch("next_ids", "authority", len(self.new)))[0][0]
        added = [
            msgspec.structs.replace(one, id=number, active=True)
            for number, one in enumerate(self.new, last - len(self.new) + 1)
        ]
        for one, key in zip(added, self.keys, strict=True):
            row = (one.id, one.role.value, one.certificate, key, one.created_at)
            if not await tx.fetch("insert_authority", *row):
                raise RoleTaken
        tell(tx, [self.event])
        return added
