"""Calls of devices' methods by people, made by whichever process has the device."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest

from gateway.core.feed import Feed
from gateway.core.model import EventKind, Peer, Permission, RpcState, Wire
from gateway.dialects.thingsboard.admin.rpc import RpcRoutes

ROOT = "/api/plugins/rpc"
NEW = "/api/rpc"
PERSISTENT = f"{NEW}/persistent"


class Answering:
    """A session's side that answers each call with the same text; None: it never does."""

    def __init__(self, rpc, device, text="{}"):
        self.rpc = rpc
        self.device = device
        self.text = text
        self.calls = []

    def call(self, request_id, call, delivered):
        self.calls.append((call.method, json.loads(call.params)))
        delivered()
        if self.text is not None:
            answer = self.rpc.answered(self.device, request_id, self.text)
            self.task = asyncio.ensure_future(answer)
        return True

    def attributes(self, change, delivered):
        return True

    def close(self, cause):
        pass


@pytest.fixture
async def device(case):
    return await case.device("lamp-1", "Acme")


@pytest.fixture
async def running(case):
    """A gateway process on the store of the case: it hears of calls."""
    case.clock.now = 1_790_000_000_000
    feed = Feed(case.store, case.sessions, case.rpc)
    await feed.begin()
    task = asyncio.create_task(feed.run())
    yield feed
    task.cancel()


@pytest.fixture
def here(case, device, running):
    """The device is connected to that process."""

    def here(text="{}"):
        outlet = Answering(case.rpc, device.device, text)
        session = case.sessions.open(device.device, Peer(Wire.MQTT, "192.0.2.7:1"), outlet)
        session.wants_calls = True
        return outlet

    return here


def body(**more):
    return {"method": "setLamp", "params": {"on": True}, "timeout": 300, **more}


@pytest.mark.parametrize("root", [ROOT, NEW])
async def test_a_device_answers(case, device, here, root):
    """200 with the device's own JSON, in both forms of the call."""
    outlet = here('{"ok": [1, 2]}')
    answer = await case.post(f"{root}/twoway/{device.device.uuid}", body(), as_="user")
    assert (answer.status, answer.text) == (200, '{"ok": [1, 2]}')
    assert answer.headers["Content-Type"] == "application/json"
    assert outlet.calls == [("setLamp", {"on": True})]
    event = next(
        one for one in await case.registry.last_events() if one.kind is EventKind.DEVICE_RPC
    )
    assert event.peer.actor == "user@example.com"


@pytest.mark.parametrize("root", [ROOT, NEW])
async def test_a_one_way_call_is_answered_with_nothing(case, device, here, root):
    """200 without a body as soon as it left."""
    outlet = here(None)
    answer = await case.post(f"{root}/oneway/{device.device.uuid}", body(params="x"))
    assert (answer.status, answer.text) == (200, "")
    assert outlet.calls == [("setLamp", "x")]


@pytest.mark.parametrize(("root", "status"), [(ROOT, 408), (NEW, 504)])
async def test_a_device_that_does_not_answer(case, device, here, root, status):
    """The older form says 408, the newer 504, in the body too."""
    here(None)
    answer = await case.post(f"{root}/twoway/{device.device.uuid}", body())
    assert (answer.status, answer.json["status"]) == (status, status)


@pytest.mark.parametrize(("root", "status"), [(ROOT, 409), (NEW, 504)])
@pytest.mark.parametrize("way", ["oneway", "twoway"])
async def test_a_device_that_is_not_here(case, device, running, root, way, status):
    """The older form says 409, the newer 504, without waiting for the time-out."""
    call = case.post(f"{root}/{way}/{device.device.uuid}", body(timeout=60_000))
    answer = await asyncio.wait_for(call, 5)
    assert (answer.status, answer.json["status"]) == (status, status)


async def test_an_answer_that_is_no_json(case, device, here):
    """406, and the answer is not repeated."""
    here("plain swordfish")
    answer = await case.post(f"{NEW}/twoway/{device.device.uuid}", body())
    assert answer.status == 406
    assert "swordfish" not in answer.text


async def test_without_any_gateway_process_a_call_times_out(case, device):
    """The store alone makes no calls: 504 when its time is over."""
    answer = await case.post(f"{NEW}/twoway/{device.device.uuid}", body(timeout=1))
    assert answer.status == 504


async def test_a_persistent_call_is_kept_and_shown(case, device, clock):
    """`rpcId` names it; it is shown with what was asked, and how far it came."""
    until = clock.now + 3_600_000
    wanted = body(persistent=True, expirationTime=until, retries=3)
    answer = await case.post(f"{NEW}/twoway/{device.device.uuid}", wanted)
    identity = answer.json["rpcId"]
    shown = (await case.get(f"{PERSISTENT}/{identity}")).json
    assert shown["id"] == {"entityType": "RPC", "id": identity}
    assert shown["deviceId"] == {"entityType": "DEVICE", "id": device.device.uuid}
    assert (shown["status"], shown["response"]) == ("QUEUED", None)
    assert (shown["createdTime"], shown["expirationTime"]) == (clock.now, until)
    assert shown["request"]["body"] == {"method": "setLamp", "params": {"on": True}}
    assert shown["request"]["oneway"] is False
    [call] = await case.registry.calls.of(device)
    await case.store.mark_call(call.id, RpcState.SUCCESSFUL, response='{"done": 1}')
    shown = (await case.get(f"{PERSISTENT}/{identity}")).json
    assert (shown["status"], shown["response"]) == ("SUCCESSFUL", {"done": 1})


async def test_persistent_calls_are_listed_and_forgotten(case, device):
    """By state, in pages, the newest first; a call that is deleted is gone."""
    place = f"{NEW}/oneway/{device.device.uuid}"
    made = [(await case.post(place, body(persistent=True))).json["rpcId"] for _ in range(3)]
    listed = f"{PERSISTENT}/device/{device.device.uuid}"
    page = (await case.get(f"{listed}?pageSize=2&page=0")).json
    assert [one["id"]["id"] for one in page["data"]] == [made[2], made[1]]
    assert (page["totalElements"], page["totalPages"], page["hasNext"]) == (3, 2, True)
    assert (await case.get(f"{listed}?pageSize=9&page=0&rpcStatus=FAILED")).json["data"] == []
    assert (await case.get(f"{listed}?pageSize=9&page=0&rpcStatus=MAYBE")).status == 400
    assert (await case.delete(f"{PERSISTENT}/{made[0]}")).status == 200
    assert (await case.delete(f"{PERSISTENT}/{made[0]}")).status == 404
    page = (await case.get(f"{listed}?pageSize=9&page=0&sortProperty=createdTime")).json
    assert [one["id"]["id"] for one in page["data"]] == made[1:]


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"{}",
        b"[]",
        b'{"method":7}',
        b'{"method":""}',
        b'{"method":"x","timeout":0}',
        b'{"method":"x","timeout":"soon"}',
        b'{"method":"x","expirationTime":5}',
        b'{"method":"x","params":"\xff"}',
        b'{"method":"' + b"m" * 256 + b'"}',
        b'{"method":"x","params":"' + b"p" * 65_536 + b'"}',
    ],
)
async def test_a_call_that_makes_no_sense(case, device, wrong):
    """400 with a sentence; nothing is stored."""
    answer = await case.post(f"{NEW}/twoway/{device.device.uuid}", wrong)
    assert (answer.status, answer.json["status"]) == (400, 400)
    assert await case.registry.calls.of(device) == []


@pytest.mark.parametrize(
    ("who", "status"), [(None, 401), ("other", 404), ("north", 404), ("user", 200), ("admin", 200)]
)
async def test_only_those_who_see_a_device_call_it(case, device, here, who, status):
    """Nobody: 401. Out of sight: 404, for stored calls too."""
    here()
    for root in (ROOT, NEW):
        answer = await case.post(f"{root}/twoway/{device.device.uuid}", body(), as_=who)
        assert answer.status == status
    stored = await case.post(f"{NEW}/oneway/{device.device.uuid}", body(persistent=True))
    identity = stored.json["rpcId"]
    assert (await case.get(f"{PERSISTENT}/{identity}", as_=who)).status == status
    listed = f"{PERSISTENT}/device/{device.device.uuid}?pageSize=1&page=0"
    assert (await case.get(listed, as_=who)).status == status
    assert (await case.delete(f"{PERSISTENT}/{identity}", as_=who)).status == status


async def test_calling_needs_a_permission(case, device):
    """403 whether the device is there or not."""
    key = {"X-Authorization": await case.key_without("admin", Permission.RPC_CALL)}
    for identity in (device.device.uuid, str(uuid.uuid4())):
        for path in (f"{ROOT}/oneway", f"{NEW}/twoway"):
            assert (await case.post(f"{path}/{identity}", body(), headers=key)).status == 403
        assert (await case.get(f"{PERSISTENT}/{identity}", headers=key)).status == 403


async def test_what_is_not_there_is_missed(case):
    """404 for an unknown device and call, 400 for what is no UUID."""
    nobody = uuid.uuid4()
    assert (await case.post(f"{NEW}/twoway/{nobody}", body())).status == 404
    assert (await case.get(f"{PERSISTENT}/{nobody}")).status == 404
    assert (await case.get(f"{PERSISTENT}/7")).status == 400
    assert (await case.post(f"{NEW}/twoway/lamp-1", body())).status == 400


async def test_calls_that_are_waited_for_are_bounded(case, device, running, monkeypatch):
    """Beyond the bound 503; persistent calls are stored all the same."""
    routes = case.administration._counters
    monkeypatch.setattr(
        next(one for one in routes if isinstance(one, RpcRoutes)), "_max_waiting", 0
    )
    place = f"{NEW}/twoway/{device.device.uuid}"
    assert (await case.post(place, body())).status == 503
    assert await case.registry.calls.of(device) == []
    assert (await case.post(place, body(persistent=True))).status == 200
