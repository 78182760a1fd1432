"""On what terms a device comes in, and what it begins with: decided before, held in the store."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from gateway.core.model import AttributeScope, Binding, PackageKind, Value


class Gifts(Struct, frozen=True, kw_only=True):
    """What a newborn begins with, its texts filled in: `BirthSettings` of one device.

    `attributes` by scope are for a device that has none of that key; what it or a hook `said`
    stands above what is there. A customer and groups that are not there are made; a device that was
    added before keeps the customer and the label it has. `packages` names each by title and
    version; one that is not there is left out, with a warning, as is what `left_out` says already.
    """

    attributes: Mapping[AttributeScope, Mapping[str, Value]] = {}
    said: Mapping[AttributeScope, Mapping[str, Value]] = {}
    customer: str = ""
    groups: tuple[str, ...] = ()
    label: str = ""
    packages: Mapping[PackageKind, tuple[str, str]] = {}
    left_out: tuple[str, ...] = ()


class Terms(Struct, frozen=True, kw_only=True):
    """On what terms a device is born, or claimed; each holds in the transaction that does it.

    `ticket_id`: the fleet secret that bore it. `binding`: whoever repeats the request gets the same
    again. `counted`: the secret's uses are bounded. `max_devices`, `max_devices_in_organisation`:
    most there may be, this one included. `approval_id`: an operator's yes, which is used up.
    `expires_at`: when it goes by itself, ms.
    """

    ticket_id: int | None = None
    binding: Binding | None = None
    counted: bool = False
    max_devices: int | None = None
    max_devices_in_organisation: int | None = None
    approval_id: int | None = None
    gifts: Gifts | None = None
    expires_at: int | None = None

    @property
    def guarded(self) -> bool:
        """Whether there is more to decide than that the name and the credentials are free."""
        return (
            self.counted
            or self.max_devices is not None
            or self.max_devices_in_organisation is not None
            or self.approval_id is not None
            or self.gifts is not None
        )


NO_TERMS = Terms()
