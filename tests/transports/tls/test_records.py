"""Where the records of TLS end."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.transports.tls.records import Records

RECORDS = st.lists(st.tuples(st.integers(20, 24), st.binary(max_size=300)), max_size=8)


def written(records):
    return b"".join(
        bytes([kind, 3, 3]) + len(body).to_bytes(2, "big") + body for kind, body in records
    )


@settings(deadline=None, max_examples=80)
@given(RECORDS, st.lists(st.integers(1, 60), min_size=1))
def test_every_record_is_counted_where_it_ends(records, cuts):
    """However the bytes are cut: each record counts once, when its last byte is there."""
    data, follower = written(records), Records()
    ends = list(itertools.accumulate(5 + len(body) for _, body in records))
    sizes, at, count = itertools.cycle(cuts), 0, 0
    while at < len(data):
        size = next(sizes)
        count += follower.ended(data[at : at + size])
        at = min(at + size, len(data))
        assert count == sum(
            end <= at and kind != 20 for end, (kind, _) in zip(ends, records, strict=True)
        )


def test_what_no_version_allows_is_worth_asking():
    """A record longer than any may be is not waited for: OpenSSL is to refuse it now."""
    assert Records().ended(b"\x17\x03\x03\xff\xff") == 1
