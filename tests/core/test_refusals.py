"""The table of refusals."""

from __future__ import annotations

import re

import pytest

from gateway.core.advice import ADVICE
from gateway.core.model import RefusalReason
from gateway.core.refusals import _NUMBERS, REFUSALS

MQTT_CODES = {0x83, 0x87, 0x97, 0x99}
"""Of those that MQTT 5 has for a PUBACK (section 3.4.2.1)."""
WAITS = {"approval_pending", "hook_failed", "no_authority"}


def test_the_table_is_complete() -> None:
    """Every reason has one row, under its own code, and one set of numbers."""
    assert list(REFUSALS) == list(RefusalReason)
    assert len(RefusalReason) == sum(map(len, _NUMBERS.values()))
    assert [row.code for row in REFUSALS.values()] == [reason.value for reason in RefusalReason]


@pytest.mark.parametrize("reason", list(RefusalReason))
def test_each_row_can_be_sent_on_each_wire(reason: RefusalReason) -> None:
    """Its code is a word, its numbers those of refusals, its words one line with an end."""
    row = REFUSALS[reason]
    assert re.fullmatch(r"[a-z][a-z_]*", row.code)
    assert row.mqtt in MQTT_CODES
    assert 400 <= row.coap <= 503
    assert 400 <= row.http <= 503 or row.code == "approval_pending"
    assert row.title[0].isupper()
    assert len(row.title) <= 256
    assert row.detail == ADVICE[reason][1]
    assert f"{row.title} {row.detail}".isprintable()


def test_who_is_to_come_again_is_told_so_by_every_number() -> None:
    """429, 4.29 and 0x97; or 503, 5.03 and 0x97, where it is not the caller's doing."""
    waiting = {row.code for row in REFUSALS.values() if row.waits}
    assert waiting == {"too_many_requests", "too_many_wrong_secrets"} | WAITS | {
        "too_many_certificates",
        "too_many_reprovisionings",
    }
    for row in REFUSALS.values():
        assert row.waits == (row.http in (202, 429, 503)) == (row.coap in (429, 503))


def test_nothing_that_is_decided_before_the_proof_is_told() -> None:
    """Else a stranger would learn which keys there are."""
    strangers = {row.code for row in REFUSALS.values() if not row.proven}
    assert strangers >= {
        *("unknown_key", "wrong_secret", "too_many_wrong_secrets", "name_blank", "unknown_token"),
    }
    assert not strangers & {"name_taken", "secret_expired", "not_on_allow_list", "blocked"}
