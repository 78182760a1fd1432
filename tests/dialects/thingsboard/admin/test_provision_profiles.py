"""Provision profiles over REST, ThingsBoard's design of 2020 (contract, section 6, draft A)."""

from __future__ import annotations

from typing import Any

import pytest
from desk_case import DeskCase

from gateway.core.model import Permission, Provisioned, ProvisionKey, ProvisionRequest, Secret
from gateway.core.provisioning import Provisioner
from gateway.dialects.thingsboard.admin.provision_profiles import ProvisionProfileRoutes
from gateway.dialects.thingsboard.admin.words import NULL_UUID

ALL = "/api/device/provision"
PAGE = "?pageSize=10&page=0"
UNKNOWN = "5d0c1a6e-0000-4000-8000-00000000dead"


class GateCase(DeskCase):
    def _further(self) -> tuple[Any, ...]:
        present = super()._further()
        if any(isinstance(one, ProvisionProfileRoutes) for one in present):
            return present
        return (*present, ProvisionProfileRoutes(self.catalogue, self.people))

    async def saved(self, body: Any = None, *, as_: str = "admin") -> Any:
        answer = await self.post(ALL, body, as_=as_)
        assert answer.status == 200, answer.text
        return answer.json

    def customer(self, name: str) -> dict[str, str]:
        return {"entityType": "CUSTOMER", "id": self.organisations[name].uuid}


@pytest.fixture
async def case(store: Any, clock: Any) -> Any:
    made = GateCase(store, clock)
    await made.open()
    yield made
    await made.close()


@pytest.mark.parametrize("body", [None, b"null", {}, {"credentials": None, "customerId": None}])
async def test_all_of_the_body_may_be_absent(case: GateCase, body: Any) -> None:
    """And the body itself; what is missing the server makes."""
    saved = await case.saved(body)
    credentials = saved.pop("credentials")
    for name in ("provisionProfileKey", "provisionProfileSecret"):
        assert len(credentials[name]) == 20
        assert credentials[name].isalnum()
    root = await case.people.root()
    assert saved == {
        "id": {"entityType": "PROVISION_PROFILE", "id": saved["id"]["id"]},
        "createdTime": case.clock(),
        "tenantId": {"entityType": "TENANT", "id": root.uuid},
        "customerId": {"entityType": "CUSTOMER", "id": NULL_UUID},
        "preProvisionAllowed": False,
        "groupName": None,
    }


async def test_what_is_given_is_taken(case: GateCase) -> None:
    """Key, secret, customer, group and permission; id, tenant and time of others are not."""
    credentials = {"provisionProfileKey": "k", "provisionProfileSecret": "s"}
    body = {
        "credentials": credentials,
        "customerId": case.customer("Acme"),
        "groupName": "north",
        "preProvisionAllowed": True,
        "createdTime": 1,
        "tenantId": {"entityType": "TENANT", "id": UNKNOWN},
    }
    saved = await case.saved(body)
    assert saved["createdTime"] == case.clock()
    for name in ("credentials", "customerId", "groupName", "preProvisionAllowed"):
        assert saved[name] == body[name]
    taken = await case.post(ALL, body)
    assert (taken.status, "already exists" in taken.message) == (400, True)


async def test_one_with_an_id_is_changed(case: GateCase) -> None:
    """What is absent stays; the customer of nobody takes it away."""
    saved = await case.saved({"customerId": case.customer("Acme"), "groupName": "north"})
    changed = await case.saved({"id": saved["id"], "preProvisionAllowed": True})
    assert changed == saved | {"preProvisionAllowed": True}
    nobody = {"entityType": "CUSTOMER", "id": NULL_UUID}
    changed = await case.saved({"id": saved["id"], "customerId": nobody, "groupName": ""})
    assert (changed["customerId"], changed["groupName"]) == (nobody, None)
    assert (await case.post(ALL, {"id": {"id": UNKNOWN}})).status == 404


async def test_they_are_listed_shown_and_removed(case: GateCase) -> None:
    """And stand in no list of device profiles."""
    made = [await case.saved() for _ in range(3)]
    page = (await case.get(f"{ALL}?pageSize=2&page=1")).json
    assert page == {"data": made[2:], "totalPages": 2, "totalElements": 3, "hasNext": False}
    newest = (await case.get(f"{ALL}{PAGE}&sortProperty=createdTime&sortOrder=DESC")).json
    assert newest["data"] == made[::-1]
    here = f"{ALL}/{made[0]['id']['id']}"
    assert (await case.get(here)).json == made[0]
    assert (await case.catalogue.page(case.operator)).total == 0
    assert (await case.delete(here)).status == 200
    assert (await case.get(here)).status == (await case.delete(here)).status == 404


async def test_its_devices_are_the_customers(case: GateCase) -> None:
    """A device with its key is born, the customer's, of the profile its type names."""
    saved = await case.saved({"customerId": case.customer("Acme"), "groupName": "north"})
    credentials = saved["credentials"]
    provisioner = Provisioner(
        case.store, clock=case.clock, new_token=lambda: "t" * 20, readable=lambda _: True
    )
    key = ProvisionKey(*(Secret(text) for text in credentials.values()))
    result = await provisioner.provision(
        ProvisionRequest(proof=key, peer=case.operator.peer, device_name="d", device_type="meter")
    )
    assert isinstance(result, Provisioned)
    found = await case.inventory.find(case.actor("boss"), result.device.uuid)
    assert found is not None
    assert (found.customer_name, found.profile_name) == ("Acme", "meter")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        ([], 400),
        ({"preProvisionAllowed": "yes"}, 400),
        ({"customerId": {"id": "no-uuid"}}, 400),
        ({"customerId": {"id": UNKNOWN}}, 404),
        ({"groupName": "a\nb"}, 400),
        ({"credentials": {"provisionProfileKey": "x" * 256}}, 400),
    ],
)
async def test_what_cannot_be_saved_is_told(case: GateCase, body: Any, status: int) -> None:
    """And nothing is made."""
    assert (await case.post(ALL, body)).status == status
    assert (await case.get(ALL + PAGE)).json["totalElements"] == 0


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("POST", ALL, Permission.PRODUCT_EDIT),
        ("GET", ALL + PAGE, Permission.PRODUCT_VIEW),
        ("GET", ALL + "/{}", Permission.PRODUCT_VIEW),
        ("DELETE", ALL + "/{}", Permission.PRODUCT_EDIT),
    ],
)
async def test_nobody_and_whoever_lacks_the_permission_are_told_so(
    case: GateCase, method: str, path: str, permission: Permission
) -> None:
    """401, and 403 before any look."""
    saved = await case.saved()
    key = {"X-Authorization": await case.key_without("admin", permission)}
    for identity in (saved["id"]["id"], UNKNOWN, "no-uuid"):
        here = path.format(identity)
        assert (await case.call(method, here, as_=None)).status == 401
        assert (await case.call(method, here, headers=key)).status == 403
    assert (await case.call(method, path.format(UNKNOWN), as_="user")).status == 403


async def test_what_is_anothers_is_not_there(case: GateCase) -> None:
    """404 for whoever is beside or below; and no customer beside is given anything."""
    saved = await case.saved(as_="boss")
    here = f"{ALL}/{saved['id']['id']}"
    for who in ("other", "north"):
        assert (await case.get(here, as_=who)).status == 404
        assert (await case.delete(here, as_=who)).status == 404
        assert (await case.post(ALL, {"id": saved["id"]}, as_=who)).status == 404
        assert (await case.get(ALL + PAGE, as_=who)).json["data"] == []
    beside = {"customerId": case.customer("Globex")}
    assert (await case.post(ALL, beside, as_="boss")).status == 404
    assert (await case.get(here)).status == 200
