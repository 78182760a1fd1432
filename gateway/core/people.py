"""The people who run the fleet: organisations, users and roles, for those with authority.

Every change is somebody's: it takes the `Actor` first, and its event is written with it. What an
actor cannot see is not there; what it may not do raises `Forbidden`.
"""

from __future__ import annotations

from msgspec import structs

from gateway.core.model import Actor, Peer, Permission
from gateway.core.organisations import Organisations
from gateway.core.users import Users

_EVERYTHING = frozenset(Permission)


class People(Organisations, Users):
    """Organisations, users and roles. `most_throttled`: names under which wrong passwords count."""

    async def operator(self, peer: Peer) -> Actor:
        """Whoever has a shell on this machine: at the root, with every permission."""
        author = peer if peer.actor else structs.replace(peer, actor=peer.address)
        return Actor(peer=author, organisation=await self.root(), permissions=_EVERYTHING)
