"""What a request passes on its way to a birth."""

from __future__ import annotations

from msgspec import Struct, field

from gateway.core.admitting import Admitting
from gateway.core.awaiting import Awaiting
from gateway.core.guesses import Guesses
from gateway.core.hooking import BeforeHooks
from gateway.core.pacing import Pacer
from gateway.core.reprovisioning import Reprovisioner


class Gates(Struct, frozen=True, kw_only=True):
    """The gates of a process. Each stands open by itself."""

    guesses: Guesses = field(default_factory=Guesses)
    pacer: Pacer = field(default_factory=Pacer)
    admitting: Admitting = field(default_factory=Admitting)
    awaiting: Awaiting = field(default_factory=Awaiting)
    before: BeforeHooks | None = None
    reprovisioner: Reprovisioner | None = None
