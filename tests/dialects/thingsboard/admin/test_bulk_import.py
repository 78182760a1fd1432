"""`POST /api/device/bulk_import`, as section 17.4 of the contract has it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from desk_case import DeskCase

from gateway.core.importing import Importer
from gateway.core.model import MqttBasic, Permission, Secret
from gateway.core.tokens import new_token
from gateway.dialects.thingsboard.admin.bulk_import import BulkImportRoutes
from gateway.store.sql_imports import SqlImports

PATH = "/api/device/bulk_import"


class ImportCase(DeskCase):
    def _further(self) -> tuple[Any, ...]:
        importer = Importer(SqlImports(self.store), clock=self.clock, new_token=new_token)
        return (BulkImportRoutes(importer, most_at_once=1),)


@pytest.fixture
async def case(store, clock):
    made = ImportCase(store, clock)
    await made.open()
    yield made
    await made.close()


def table(file: str, *columns: str, **mapping: Any) -> dict[str, Any]:
    told = [dict(zip(("type", "key"), one.split(":"), strict=False)) for one in columns]
    settings = {"columns": told, "delimiter": ",", "header": True, "update": True}
    return {"file": file, "mapping": settings | mapping}


async def known(case, name: str):
    return await case.registry.device(name)


async def test_the_example_of_the_contract(case):
    """One device is created, and a second time it is updated."""
    body = table("NAME,TYPE\ndev1,sensor,5\n", "NAME", "TYPE", "SERVER_ATTRIBUTE:DATA")
    for created in (1, 0):
        answer = await case.post(PATH, body)
        assert answer.status == 200
        told = {"created": created, "updated": 1 - created, "errors": 0, "errorsList": []}
        assert answer.json == told
    device = await known(case, "dev1")
    assert device.device.type == "sensor"
    assert len(device.credentials.token.reveal()) == 20
    (attribute,) = await case.registry.attributes(device)
    assert (attribute.key, attribute.value) == ("DATA", 5)


async def test_errors_are_told_by_line_and_leave_the_others(case):
    """The header counts as a line, and a bad row undoes nothing."""
    file = "n,t\na,tok-1\n,tok-2\nb,tok-1\nc,tok-3\n"
    answer = await case.post(PATH, table(file, "NAME", "ACCESS_TOKEN"))
    assert answer.json == {
        "created": 2,
        "updated": 0,
        "errors": 2,
        "errorsList": [
            "Line 3: Device name should be specified!",
            "Line 4: Device credentials are already assigned to another device!",
        ],
    }


@pytest.mark.parametrize(
    ("columns", "cells", "told"),
    [
        (("MQTT_PASSWORD",), "secret", "Both mqtt client id and user name are empty!"),
        (
            ("MQTT_CLIENT_ID", "MQTT_PASSWORD"),
            "id,secret",
            "Password cannot be specified along with client id",
        ),
        (("MQTT_USER_NAME",), "a\x07b", "userName must not contain control characters!"),
        (("ACCESS_TOKEN",), "a\x07b", "credentialsId must not contain control characters!"),
        (("IS_GATEWAY",), "perhaps", "whether it is a gateway must be true or false"),
        (("LWM2M_CLIENT_ENDPOINT",), "x", "LwM2M and SNMP credentials are not supported"),
        (("LABEL",), "x" * 256, "the label must have at most 255 characters"),
        (("LABEL",), "a\0b", "a cell holds a NUL character"),
    ],
)
async def test_what_is_wrong_with_a_cell(case, columns, cells, told):
    """A bad cell is named in ThingsBoard's words where it has some, and is never repeated."""
    answer = await case.post(PATH, table(f"dev,{cells}\n", "NAME", *columns, header=False))
    assert answer.json["errorsList"] == [f"Line 1: {told}"]
    assert await known(case, "dev") is None


async def test_which_credentials_a_row_has(case):
    """X509 goes before MQTT_*, and that before ACCESS_TOKEN."""
    columns = ("NAME", "ACCESS_TOKEN", "MQTT_USER_NAME", "MQTT_PASSWORD", "X509")
    pem = '"-----BEGIN CERTIFICATE-----\nMIIB\nAAAA\n-----END CERTIFICATE-----\n"'
    file = f"a,tok,user,pass,{pem}\nb,tok,user,pass,\nc,tok,,,\n"
    answer = await case.post(PATH, table(file, *columns, header=False))
    assert answer.json["created"] == 3
    assert (await known(case, "a")).credentials.text == "MIIBAAAA"
    assert (await known(case, "b")).credentials == MqttBasic("", "user", Secret("pass"))
    assert (await known(case, "c")).credentials.token == Secret("tok")


async def test_update_false_leaves_data_alone(case):
    """`update: false` writes attributes and time series of new devices only."""
    for value, update in ((1, True), (2, False)):
        file = f"a,{value},{value}\n"
        body = table(
            file, "NAME", "SHARED_ATTRIBUTE:k", "TIMESERIES:t", header=False, update=update
        )
        assert (await case.post(PATH, body)).status == 200
    device = await known(case, "a")
    assert [one.value for one in await case.registry.attributes(device)] == [1]
    assert [one.value for one in await case.registry.latest(device)] == [1]


@pytest.mark.parametrize(
    "body",
    [
        table("a\n", "TYPE"),
        table("a\n"),
        table("a\n", "NAME", "WRONG"),
        table("a\n", "NAME", "SERVER_ATTRIBUTE"),
        table("a\n", "NAME", delimiter="::"),
        table("a\n", "NAME", delimiter='"'),
        {"file": 5, "mapping": {"columns": []}},
        {"mapping": {"columns": [{"type": "NAME"}]}},
    ],
)
async def test_a_mapping_that_is_none(case, body):
    """What cannot be understood as a whole is 400 with ThingsBoard's error body."""
    answer = await case.post(PATH, body)
    assert answer.status == 400
    assert answer.json["errorCode"] == 31


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_table_larger_than_other_bodies(case):
    """Bodies beyond the listener's bound are taken from who is logged in, and not from others."""
    file = "name,label\n" + "".join(f"d-{n},{'x' * 200}\n" for n in range(6000))
    body = table(file, "NAME", "LABEL")
    assert len(json.dumps(body)) > 1_048_576
    answer = await case.post(PATH, body)
    assert answer.json == {"created": 6000, "updated": 0, "errors": 0, "errorsList": []}
    try:
        refused = (await case.post(PATH, body, as_=None)).status
    except OSError:
        refused = 413  # the connection was closed while the body was still sent
    assert refused == 413


@pytest.mark.parametrize(
    ("who", "status"), [(None, 401), ("user", 403), ("boss", 200), ("admin", 200)]
)
async def test_who_may_import(case, who, status):
    """Nobody is 401; a customer's user lacks the permission; an administrator may."""
    assert (await case.post(PATH, table("a\n", "NAME", header=False), as_=who)).status == status


async def test_devices_belong_where_their_importer_stands(case):
    """What a customer's administrator imports is that customer's, and others' names are free."""
    body = table("same\n", "NAME", header=False)
    for who in ("boss", "other", "admin"):
        assert (await case.post(PATH, body, as_=who)).json["created"] == 1
    record = await case.inventory.find_named(case.actor("boss"), "same")
    assert record.device.organisation_id == case.organisations["Acme"].id


async def test_the_author_is_in_the_events(case):
    """Each device's event names the user who imported it."""
    await case.post(PATH, table("a\n", "NAME", header=False))
    device = await known(case, "a")
    (event,) = await case.registry.last_events(device, limit=10)
    assert event.peer.actor == "admin@example.com"


async def test_what_one_may_not_do_is_a_row_s_error(case):
    """A script that may not set credentials can import devices without."""
    key = await case.key_without("admin", Permission.SET_AUTH_TOKEN)
    answer = await case.post(
        PATH,
        table("a,tok\nb,\n", "NAME", "ACCESS_TOKEN", header=False),
        headers={"X-Authorization": key},
    )
    assert (answer.json["created"], answer.json["errors"]) == (1, 1)
