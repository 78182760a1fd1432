"""ThingsBoard's administration REST, as its Python client and operators' scripts call it.

The contract is `thingsboard-device-api.md`, sections 6, 17 and 18. Every route goes through `Desk`,
which says who calls, whether they may, and in what shape an error is told. Differences, on purpose:

- What a saved device, user or customer's request leaves out stays as it is (of a customer: but its
  contact data), where ThingsBoard takes it for null: its own client leaves out what is null.
- `deviceData` is what the profile says; `firmwareId` and `softwareId` are assigned elsewhere.
- Credentials have the UUID of their device, since there is one set of each.
- What a user may do is the role's: 403 comes before any look-up, whatever is asked about. `role`
  and `password` of a user are ours, and no mail is sent.
- One that is disabled, unknown or locked out is told what everybody with a wrong password is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

from gateway.core.ports import Clock
from gateway.dialects.thingsboard.admin.credentials import CredentialsRoutes
from gateway.dialects.thingsboard.admin.customers import CustomerRoutes
from gateway.dialects.thingsboard.admin.desk import Desk
from gateway.dialects.thingsboard.admin.device_lists import DeviceListRoutes
from gateway.dialects.thingsboard.admin.devices import DeviceRoutes
from gateway.dialects.thingsboard.admin.finder import Finder
from gateway.dialects.thingsboard.admin.login import Callers, LoginRoutes
from gateway.dialects.thingsboard.admin.tokens import Tokens
from gateway.dialects.thingsboard.admin.users import UserRoutes
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.catalogue import Catalogue
    from gateway.core.inventory import Inventory
    from gateway.core.logins import Logins
    from gateway.core.people import People
    from gateway.core.registry import Registry


class Counter(Protocol):
    """Some routes of the administration: one file's."""

    def routes(self, desk: Desk) -> tuple[Route, ...]: ...


class Administration:
    """All routes of the administration. `jwt_key`: 64 bytes that sign the tokens of logins.

    `counters` are those of further subjects (profiles, telemetry, audit), each of which was given
    the services it needs.
    """

    def __init__(
        self,
        *,
        logins: Logins,
        people: People,
        inventory: Inventory,
        catalogue: Catalogue,
        registry: Registry,
        clock: Clock,
        jwt_key: bytes,
        counters: Iterable[Counter] = (),
    ) -> None:
        tokens = Tokens(jwt_key, clock, access_s=logins.access_s)
        finder = Finder(people, inventory)
        self.desk = Desk(Callers(logins, tokens), clock)
        self._counters: tuple[Counter, ...] = (
            LoginRoutes(logins, people, tokens),
            UserRoutes(people, finder),
            CustomerRoutes(people, finder),
            DeviceRoutes(inventory, catalogue, finder),
            DeviceListRoutes(inventory, catalogue, registry, finder),
            CredentialsRoutes(inventory, finder),
            *counters,
        )

    def routes(self) -> tuple[Route, ...]:
        return tuple(route for counter in self._counters for route in counter.routes(self.desk))
