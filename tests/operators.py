"""Somebody who may do everything, in the root organisation."""

from __future__ import annotations

from gateway.core.model import Actor, Organisation, Peer, Permission, Wire


def root_operator(name: str = "tester") -> Actor:
    """At a shell; `name` is what their events say."""
    return Actor(
        peer=Peer(Wire.SHELL, name, actor=name),
        organisation=Organisation(id=1, uuid="root", name="root", path="/1/"),
        permissions=frozenset(Permission),
    )
