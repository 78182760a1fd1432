"""What comes in as JSON or in a query, whatever it is, is understood or refused."""

from __future__ import annotations

import json
import uuid

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from gateway.core.model import Peer, Wire
from gateway.dialects.thingsboard.admin.customers import CustomerBody
from gateway.dialects.thingsboard.admin.desk import Trouble, body_of
from gateway.dialects.thingsboard.admin.device_shapes import DeviceBody, read_object
from gateway.dialects.thingsboard.admin.user_shapes import UserBody, info_of
from gateway.dialects.thingsboard.admin.words import paging_of, text_of, uuid_of, uuids_of
from gateway.wire.call import Call, Status

PEER = Peer(Wire.HTTP, "192.0.2.7:50123")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "entityType", "gateway", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
MEMBERS = [
    "id",
    "name",
    "type",
    "label",
    "deviceProfileId",
    "customerId",
    "additionalInfo",
    "firmwareId",
    "version",
    "email",
    "authority",
    "firstName",
    "phone",
    "role",
    "password",
    "title",
    "country",
    "parentCustomerId",
]
BODIES = st.dictionaries(st.sampled_from(MEMBERS), ANYTHING, max_size=6)


def call(body=b"", **query):
    return Call(body, PEER, query=query)


def refused(made):
    with pytest.raises(Trouble) as caught:
        made()
    assert caught.value.status is Status.BAD_REQUEST
    return caught.value.message


@settings(deadline=None, max_examples=60)
@given(BODIES.map(lambda body: json.dumps(body).encode()) | st.binary(max_size=60))
@pytest.mark.parametrize("kind", [DeviceBody, UserBody, CustomerBody])
def test_any_body_is_read_or_refused(kind, body):
    """And what is kept of one that was read is an object of JSON."""
    try:
        read = body_of(call(body), kind)
    except Trouble as trouble:
        told = trouble
    else:
        if isinstance(read, DeviceBody) and read.additional_info is not UNSET:
            assert "gateway" not in msgspec.json.decode(read.info(), type=dict)
            assert read.is_gateway() in (True, False)
        if isinstance(read, UserBody):
            assert isinstance(read_object(info_of(read, "{}")), dict)
        return
    assert told.status is Status.BAD_REQUEST


@pytest.mark.parametrize("secret", ["hunter2hunter2", "tok-3c7a"])
def test_a_refused_body_is_not_repeated(secret):
    """Bodies hold passwords and tokens."""
    body = json.dumps({"password": [secret], "email": secret}).encode()
    assert secret not in refused(lambda: body_of(call(body), UserBody))
    assert secret not in repr(UserBody(password=secret))


@settings(deadline=None, max_examples=80)
@given(
    st.dictionaries(
        st.sampled_from(["page", "pageSize", "sortProperty", "sortOrder", "textSearch"]),
        st.text(max_size=12) | st.integers().map(str) | st.sampled_from(["name", "ASC", "desc"]),
    )
)
def test_any_paging_is_within_bounds_or_refused(query):
    """A page that is asked for is one the store can give."""
    try:
        asked = paging_of(call(**query), ("name",))
    except Trouble as trouble:
        told = trouble
    else:
        assert 0 <= asked.page <= 10**9
        assert 1 <= asked.page_size <= 1000
        assert asked.sort in ("", "name")
        assert "\0" not in asked.text
        return
    assert told.status is Status.BAD_REQUEST


@settings(deadline=None, max_examples=80)
@given(st.text(max_size=60) | st.uuids().map(str) | st.uuids().map(lambda one: one.hex.upper()))
def test_a_uuid_comes_in_its_usual_form_or_is_refused(text):
    """However it is written; what is none is not repeated."""
    try:
        found = uuid_of(text, "deviceId")
    except Trouble as trouble:
        told = trouble
    else:
        assert found == str(uuid.UUID(found))
        return
    assert told.message == "Invalid UUID string: deviceId"


def test_several_uuids_are_each_asked_for_once():
    """Spaces and Python's own writing of a list are let pass."""
    one, two = (str(uuid.UUID(int=number)) for number in (1, 2))
    assert uuids_of(call(ids=f"['{one}', '{two}',{one}]"), "ids") == (one, two)
    assert refused(lambda: uuids_of(call(), "ids")).endswith("'ids' is not present")
    assert refused(lambda: uuids_of(call(ids=",,"), "ids")).endswith("'ids' is not present")
    assert refused(lambda: uuids_of(call(ids="x"), "ids")) == "Invalid UUID string: ids"


def test_a_text_of_the_query_may_be_required():
    """And holds no zero byte, which PostgreSQL keeps nowhere."""
    assert text_of({}, "name") == ""
    assert text_of({"name": "é"}, "name", required=True) == "é"
    refused(lambda: text_of({}, "name", required=True))
    refused(lambda: text_of({"name": "a\0b"}, "name"))
