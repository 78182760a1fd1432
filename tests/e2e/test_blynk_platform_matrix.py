"""Who may do what to which device: contract, sections 4.1 to 4.4 and 6.2, status by status."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from platform_ground import (
    DEVICE,
    ISSUE,
    ONLINE,
    RECONFIGURE,
    REPROVISION,
    UNKNOWN,
    Caller,
    Platform,
)

from gateway.core.model import Permission

PROVISION, USERS = Permission.PROVISION_DEVICES, Permission.ORG_VIEW_USERS
OWN, ORG = Permission.OWN_DEVICES_VIEW, Permission.ORG_DEVICES_VIEW

CALLERS: dict[str, tuple[str, Iterable[Permission] | None]] = {
    "nothing": ("acme", ()),
    "provision": ("acme", (PROVISION,)),
    "provision, users": ("acme", (PROVISION, USERS)),
    "provision, own": ("acme", (PROVISION, OWN)),
    "provision, org": ("acme", (PROVISION, ORG)),
    "all but provision": ("acme", frozenset(Permission) - {PROVISION}),
    "own": ("acme", (OWN,)),
    "org": ("acme", (ORG,)),
    "all": ("acme", None),
    "all of Globex": ("globex", None),
    "all of North": ("north", None),
    "all of the root": ("root", None),
}
"""Users: where they are, and what they may; None: everything. `client` is no user, but Acme's."""

# Whose device:           its own, another's in Acme, in North, in Globex, in the root, nobody's
REACH = {
    "client": "  -  200 200 404 404 404",
    "nothing": " 403 403 403 403 403 403",
    "provision": " 403 403 403 403 403 403",
    "provision, users": " 403 403 403 403 403 403",
    "provision, own": " 200 404 404 404 404 404",
    "provision, org": " 200 200 200 404 404 404",
    "all but provision": " 403 403 403 403 403 403",
    "own": " 403 403 403 403 403 403",
    "org": " 403 403 403 403 403 403",
    "all": " 200 200 200 404 404 404",
    "all of Globex": " 200 404 404 200 404 404",
    "all of North": " 200 404 200 404 404 404",
    "all of the root": " 200 200 200 200 200 404",
}
SEEN = REACH | {
    "all but provision": " 200 200 200 404 404 404",
    "own": " 200 404 404 404 404 404",
    "org": " 200 200 200 404 404 404",
}
"""Looking takes no PROVISION_DEVICES."""

OWNED = (
    *(("acme", "self"), ("acme", "acme"), ("north", "self"), ("north", "acme")),
    *(("globex", "globex"), ("globex", "self"), ("", "self"), ("acme", "")),
    *(("acme", "globex"), ("acme", "north"), ("acme", "root")),
)
"""An organisation, and of which one the owner is; "": there is none of that number."""
# In, owner:    Acme,self Acme,Acme North,self North,Acme  Globex,Globex Globex,self
#               none,self Acme,none  Acme,Globex Acme,North Acme,root
ISSUED = {
    "client": "  -  200  -  200  404  -   -  404 404 404 404",
    "nothing": "403 403 403 403  403 403 403 403 403 403 403",
    "provision": "200 403 200 403  403 404 404 403 403 403 403",
    "provision, users": "200 200 200 200  404 404 404 404 404 404 404",
    "provision, own": "200 403 200 403  403 404 404 403 403 403 403",
    "provision, org": "200 403 200 403  403 404 404 403 403 403 403",
    "all but provision": "403 403 403 403  403 403 403 403 403 403 403",
    "own": "403 403 403 403  403 403 403 403 403 403 403",
    "org": "403 403 403 403  403 403 403 403 403 403 403",
    "all": "200 200 200 200  404 404 404 404 404 404 404",
    "all of Globex": "404 404 404 404  200 200 404 404 404 404 404",
    "all of North": "404 404 200 404  404 404 404 404 404 404 404",
    "all of the root": "200 200 200 200  200 200 404 404 404 404 200",
}


async def made(platform: Platform, name: str) -> Caller:
    if name == "client":
        return await platform.client(platform.acme)
    where, permissions = CALLERS[name]
    return await platform.caller(getattr(platform, where), permissions)


async def numbers(platform: Platform, caller: Caller) -> list[int | None]:
    """The devices of the columns of `REACH`; None where there is none."""
    somebody = await platform.member(platform.acme)
    own = None if caller.user is None else (caller.organisation, caller.user)
    places = [own, (platform.acme, somebody), *((platform.north, None), (platform.globex, None))]
    found = [
        None if place is None else (await platform.device_of(*place)).device.id
        for place in (*places, (platform.root, None))
    ]
    return [*found, UNKNOWN]


@pytest.mark.parametrize("name", REACH)
async def test_devices(platform: Platform, name: str) -> None:
    """What may be told, renewed and looked at; each refusal is the same for all that is hidden."""
    caller = await made(platform, name)
    devices = await numbers(platform, caller)
    for number, told, seen in zip(devices, REACH[name].split(), SEEN[name].split(), strict=True):
        if number is None:
            assert told == seen == "-"
            continue
        for path in (RECONFIGURE, REPROVISION):
            answer = await platform.post(caller, path, deviceId=number)
            assert answer.status == int(told), (path, number, answer.body)
        for path in (ONLINE, DEVICE):
            answer = await platform.get(caller, path, number)
            assert answer.status == int(seen), (path, number, answer.body)


@pytest.mark.parametrize("name", ISSUED)
async def test_tokens(platform: Platform, name: str) -> None:
    """In which organisations, and for whom, a device may be reserved."""
    caller = await made(platform, name)
    members = {
        where: (await platform.member(getattr(platform, where))).id
        for where in ("acme", "north", "globex", "root")
    }
    members |= {"": UNKNOWN, "self": caller.user.id if caller.user is not None else 0}
    for (where, owner), status in zip(OWNED, ISSUED[name].split(), strict=True):
        if status == "-":
            assert caller.user is None
            continue
        organisation = getattr(platform, where).id if where else UNKNOWN
        answer = await platform.post(caller, ISSUE, orgId=organisation, ownerId=members[owner])
        assert answer.status == int(status), (where, owner, answer.body)


async def test_a_device_of_its_own_elsewhere(platform: Platform) -> None:
    """With OWN_DEVICES_VIEW alone a device is reached by its owner, in whatever organisation."""
    caller = await platform.caller(platform.acme, (PROVISION, OWN))
    below = (await platform.device_of(platform.north, caller.user)).device
    assert (await platform.post(caller, REPROVISION, deviceId=below.id)).status == 200
    assert (await platform.get(caller, DEVICE, below.id)).status == 200
