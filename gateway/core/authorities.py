"""The authority that signs devices' certificates: ours, kept in the store, or one from a file."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.core.errors import ConfigError
from gateway.core.model import Event, EventKind, Peer, RefusalReason
from gateway.core.pki.model import Authority, AuthorityRole, Unfit
from gateway.core.ports import Clock, Store

if TYPE_CHECKING:
    from gateway.core.pki.authority import Signer
    from gateway.core.pki.issuer import Issuer

FRESH_MS = 5000
"""How long what the store said is believed: another process may have rotated the key."""


class Authorities:
    """Finds who signs now, and who signed before. One for a process.

    `peer` is the author of the events. `file`: an authority from elsewhere, which signs instead of
    ours. Ours comes into being when it is first needed; of several processes, one makes it.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        peer: Peer,
        *,
        file: Signer | None = None,
        public_url: str = "",
    ) -> None:
        self._store = store
        self._clock = clock
        self._peer = peer
        self._file = file
        self._public_url = public_url
        self._issuer: Issuer | None = None
        self._signers: dict[int, Signer] = {}
        self._fresh_until = 0
        self._looking = asyncio.Lock()

    @property
    def file(self) -> Signer | None:
        """The authority from elsewhere, where one is configured."""
        return self._file

    async def issuer(self) -> Issuer:
        """Who signs what is asked for now. Raises `Unfit(NO_AUTHORITY)`: its key is not here."""
        if self._issuer is None or (self._file is None and self._clock() >= self._fresh_until):
            async with self._looking:
                await self._look()
        assert self._issuer is not None
        return self._issuer

    async def signer_of(self, authority_id: int) -> Signer | None:
        """The authority of that number, retired or not; None when it is not one of ours."""
        if self._file is not None and authority_id == self._file.authority_id:
            return self._file
        if authority_id not in self._signers:
            self._learn(await self._store.authorities())
        return self._signers.get(authority_id)

    async def chain(self) -> tuple[bytes, ...]:
        """The certificate of who signs now, its issuers, the root last; DER."""
        signer = (await self.issuer()).signer
        return (
            (*signer.issuers, signer.root) if signer.root not in signer.issuers else signer.issuers
        )

    async def all(self) -> list[Authority]:
        """Ours, the newest first; they are made if there are none and none comes from a file."""
        kept = await self._store.authorities()
        if self._file is None and not any(one.active for one in kept):
            kept = await self._make()
        return kept

    async def rotate(self, *, root: bool = False) -> list[Authority]:
        """A new issuing key, and with `root` a new root above it. The new ones.

        What was signed before stays good until it ends or is revoked. Raises `ConfigError` where
        the authority comes from a file, or the root cannot sign any more.
        """
        if self._file is not None:
            raise ConfigError(
                "the authority comes from a file ([ca] key_file): it is rotated where it was made. "
                "Put the new certificate and key in the files' place and restart."
            )
        # Loads cryptography's X.509, here and below: a gateway that signs nothing need not wait.
        from gateway.core.pki.authority import make_issuing, make_root

        active = {one.role: one for one in await self.all() if one.active}
        now = self._clock()
        new_root = make_root(now) if root else None
        try:
            issuing = make_issuing(new_root or active[AuthorityRole.ROOT], now)
        except Unfit as unfit:
            raise ConfigError(
                f"{unfit.detail}: it signs no issuing key any more. Rotate the root as well."
            ) from None
        new = [issuing] if new_root is None else [new_root, issuing]
        event = Event(
            kind=EventKind.AUTHORITY_ROTATE,
            at=now,
            peer=self._peer,
            subject="root" * root or "issuing",
        )
        added = await self._store.add_authorities(new, event, replaces=[one.role for one in new])
        self._fresh_until = 0
        return added or []

    async def _look(self) -> None:
        from gateway.core.pki.issuer import Issuer

        if self._file is not None:
            self._issuer = self._issuer or Issuer(self._file, public_url=self._public_url)
            return
        if self._issuer is not None and self._clock() < self._fresh_until:
            return  # somebody else looked while we waited
        kept = await self.all()
        self._learn(kept)
        active = next(one for one in kept if one.active and one.role is AuthorityRole.ISSUING)
        signer = self._signers.get(active.id)
        if signer is None:
            raise Unfit(RefusalReason.NO_AUTHORITY, f"the key of authority {active.id} is not here")
        if self._issuer is None or self._issuer.signer.authority_id != active.id:
            self._issuer = Issuer(signer, public_url=self._public_url)
        self._fresh_until = self._clock() + FRESH_MS

    def _learn(self, kept: list[Authority]) -> None:
        from gateway.core.pki.authority import signer_of

        roots = [one for one in kept if one.role is AuthorityRole.ROOT]
        for one in kept:
            if one.role is AuthorityRole.ISSUING and one.id not in self._signers:
                with suppress(Unfit):  # one that can sign nothing keeps no other from it
                    self._signers[one.id] = signer_of(one, roots)

    async def _make(self) -> list[Authority]:
        """A root and an issuing key. Another process may be quicker: then its count."""
        from gateway.core.pki.authority import make_issuing, make_root

        now = self._clock()
        root = make_root(now)
        event = Event(kind=EventKind.AUTHORITY_CREATE, at=now, peer=self._peer, subject="authority")
        await self._store.add_authorities([root, make_issuing(root, now)], event)
        return await self._store.authorities()
