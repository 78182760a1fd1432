"""[birth] and [answer] of a profile file: what is read, and what is told of what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.errors import ConfigError
from gateway.core.model import PLAIN_POLICY
from gateway.profiles import read_profile

REPOSITORY = Path(__file__).parent.parent
CREATE = 'provision_type = "ALLOW_CREATE_NEW_DEVICES"\n'
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"


def read(folder: Path, text: str) -> Path:
    path = folder / "meter.toml"
    path.write_text(CREATE + text, encoding="utf-8")
    return path


def test_the_example_of_birth_settings_is_good() -> None:
    """As it stands, and with what is commented out in it."""
    path = REPOSITORY / "examples" / "profiles" / "birth-settings.toml"
    policy = read_profile(path, {}).policy
    assert policy.newborn.firmware == "meter-firmware 2.1"
    assert policy.newborn.groups == ("meters", "{hardware.line}")
    assert policy.answer.device_name
    assert policy.answer.servers["mqtts"] == "mqtts://gate.example.com:8883"


def test_a_certificate_comes_from_a_file_beside(tmp_path: Path) -> None:
    """Its text goes into the answer; burn-in is a duration."""
    (tmp_path / "ca.pem").write_text(CA)
    text = '[answer]\nca_certificate = { file = "ca.pem" }\n[birth]\nexpires_after = "3d"\n'
    policy = read_profile(read(tmp_path, text), {}).policy
    assert policy.answer.ca_certificate == CA
    assert policy.newborn.expires_after_s == 3 * 86_400


def test_empty_tables_are_the_plain_policy(tmp_path: Path) -> None:
    """Nothing that is switched on is nothing, to the object."""
    path = read(tmp_path, "[birth]\n[birth.shared]\n[answer]\ndevice_id = false\n")
    assert read_profile(path, {}).policy is PLAIN_POLICY


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[birth]\nlabel = "{serail}"\n', 3, "{hardware.KEY}"),
        ('[birth]\ngroups = ["ok", "{"]\n', 3, "{{ and }}"),
        ('[birth.server]\na = "{hardware}"\n', 2, "{hardware.KEY}"),
        ('[birth]\nfirmware = "meter-firmware"\n', 3, "version"),
        ('[birth]\nexpires_after = "0"\n', 3, "at least a second"),
        (f'[answer]\nca_certificate = """{CA}{KEY}"""\n', 3, "private key"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, says: str
) -> None:
    """In a sentence that says what to write instead, and shows no key."""
    with pytest.raises(ConfigError) as caught:
        read_profile(read(tmp_path, text), {})
    assert says in str(caught.value)
    assert f"meter.toml:{line}" in str(caught.value), str(caught.value)
    assert "hunter2" not in str(caught.value)
