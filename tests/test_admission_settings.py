"""`[admission]` in a profile file: proven when it is read, faulted by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.errors import ConfigError
from gateway.core.model import PLAIN_POLICY, Admission
from gateway.policy_words import policy_settings
from gateway.profiles import read_profile

EXAMPLE = Path(__file__).parents[1] / "examples" / "profiles" / "who-may-come.toml"
OPEN = 'provision_type = "ALLOW_CREATE_NEW_DEVICES"\n'


def test_the_example_uses_every_setting_of_who_may_come() -> None:
    """But for the operator's word, which is another's example."""
    admission = read_profile(EXAMPLE).policy.admission
    differs = {
        name
        for name in Admission.__struct_fields__
        if getattr(admission, name) != getattr(PLAIN_POLICY.admission, name)
    }
    assert set(Admission.__struct_fields__) - differs == {"approval", "approval_backoff_s"}
    assert policy_settings(read_profile(EXAMPLE).policy)["admission"]["max_devices"] == 10_000


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('allow = ["ok", "^("]', '"^(": it cannot be used: missing ): ^('),
        ('deny = [""]', "a pattern has 1 to 256 characters"),
        ('allow = "WM-*"', "must be a list of patterns of names"),
        ('networks = ["10.1.2.3/8"]', "bits are set behind the prefix: write 10.0.0.0/8"),
        ('networks = ["here"]', "write a network like 10.0.0.0/8"),
        ('hours = ["Mon-Fri"]', "write days, hours and a zone"),
        ('hours = ["07:00-19:00 Europe/Atlantis"]', "no such time zone"),
        ('opens_at = "2026-12-01"', "say which time zone"),
        ("max_devices = 0", "must be a whole number between 1 and"),
        ("allow_lists = true", "Did you mean `allow_list`?"),
        ('closes_at = "2020-01-01T00:00:00Z"', "closes_at is not after opens_at"),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "p.toml"
    opens = "" if "opens_at" in line else 'opens_at = "2026-01-01T00:00:00Z"\n'
    path.write_text(f"{OPEN}[admission]\n{opens}{line}\n")
    with pytest.raises(ConfigError) as raised:
        read_profile(path)
    assert f"p.toml:{4 if opens else 3}: [admission] " in str(raised.value)
    assert told in str(raised.value)
