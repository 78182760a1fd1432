"""What a newborn begins with: settings of a profile, with a stranger's words filled in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.giving import MOST_BLANKS, check_package, check_text, gifts_for, template_of
from gateway.core.model import (
    HARDWARE_INFO,
    Amendment,
    AttributeScope,
    BirthSettings,
    DeviceProfile,
    Json,
    PackageKind,
    Peer,
    Policy,
    ProvisionKey,
    ProvisionRequest,
    Secret,
    Wire,
)
from gateway.core.names import is_device_name, is_plain
from gateway.core.terms import Gifts

SHARED, SERVER, CLIENT = AttributeScope.SHARED, AttributeScope.SERVER, AttributeScope.CLIENT


def request(hardware: object = None, amended: Amendment | None = None) -> ProvisionRequest:
    told = None if hardware is None else Json(json.dumps(hardware))
    proof, peer = ProvisionKey(Secret("k"), Secret("s")), Peer(Wire.HTTP, "192.0.2.1:1")
    return ProvisionRequest(proof=proof, peer=peer, hardware=told, amended=amended)


def gifts(hardware: object = None, name: str = "wm-7", **newborn: object) -> Gifts | None:
    policy = Policy(newborn=BirthSettings(**newborn))  # type: ignore[arg-type]
    profile = DeviceProfile(id=1, name="p", policy=policy)  # type: ignore[call-arg]
    return gifts_for(profile, request(hardware), name)


def filled(text: str, hardware: object = None, name: str = "wm-7") -> object:
    """A text as it becomes a server attribute."""
    found = gifts(hardware, name, server={"a": text})
    assert found is not None
    return found.attributes[SERVER]["a"]


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("plain", "plain"),
        ("{name}!", "wm-7!"),
        ("{serial}/{mac}", "S1/aa:bb"),
        ("{hardware.model}", "M 2"),
        ("{hardware.radio.band}", "868"),
        ("{hardware.radio.on} {hardware.radio.gain}", "true 1.5"),
        ("{hardware.radio}{hardware.list}{hardware.no}{hardware.radio.band.x}", ""),
        ("{{name}}", "{name}"),
        ('{{"a":{hardware.radio.band}}}', '{"a":868}'),
    ],
)
def test_blanks_are_filled_from_the_name_and_the_hardware(text: str, becomes: str) -> None:
    """What is no text, number or flag is empty, and so is what is not told."""
    radio = {"band": 868, "on": True, "gain": 1.5}
    hardware = {"serial": "S1", "mac": "aa:bb", "model": "M 2", "radio": radio, "list": [1]}
    assert filled(text, hardware) == becomes


@pytest.mark.parametrize(
    "text",
    ["{", "}", "{nam}", "{hardware}.x", "{hardware.}", "{hardware.a b}", "{name", "a}b", "{}",
     "{name}" * (MOST_BLANKS + 1), "{hardware" + ".a" * 9 + "}"],
)  # fmt: skip
def test_a_text_that_cannot_be_filled_in_is_told_when_it_is_saved(text: str) -> None:
    """`check_text` says so, in a sentence."""
    with pytest.raises(ValueError, match=r"places to fill in|\{ begins"):
        check_text(text)


def test_a_package_is_named_by_title_and_version() -> None:
    """The last word is the version; a title may have spaces and blanks."""
    found = gifts({"model": "X 1"}, firmware="fw {hardware.model} 2.0", software="app 1")
    assert found is not None
    assert found.packages == {
        PackageKind.FIRMWARE: ("fw X 1", "2.0"),
        PackageKind.SOFTWARE: ("app", "1"),
    }
    with pytest.raises(ValueError, match="version"):
        check_package("meter-firmware")


def test_what_is_no_name_is_left_out_and_told() -> None:
    """A stranger's markup makes no customer; an empty group is no group."""
    hardware = {"site": "<b>x</b>", "tag": " \x00\n ", "ok": " hall 3 "}
    found = gifts(
        hardware,
        customer="{hardware.site}",
        groups=("{hardware.ok}", "{hardware.none}", "hall 3", "{hardware.site}"),
        label="{hardware.ok}",
    )
    assert found is not None
    assert (found.customer, found.groups, found.label) == ("", ("hall 3",), "hall 3")
    assert found.left_out == (
        "customer <b>x</b>: not a name",
        "group <b>x</b>: not a name",
    )


def test_a_profile_that_gives_nothing_gives_nothing() -> None:
    """No gifts, no transaction of their own; hardware alone becomes the client attribute."""
    profile = DeviceProfile(id=1, name="p")  # type: ignore[call-arg]
    assert gifts_for(profile, request(), "d") is None
    assert gifts() is None
    assert gifts_for(profile, request({"serial": "S1"}), "d") == Gifts(
        said={CLIENT: {HARDWARE_INFO: Json('{"serial": "S1"}')}}
    )


def test_what_a_hook_adds_comes_beside_the_profiles_own() -> None:
    """Its attributes are said, not defaults; its groups are further ones."""
    amended = Amendment(attributes={"erp": 7}, groups=("east", "meters"))
    policy = Policy(newborn=BirthSettings(server={"erp": 1}, groups=("meters",)))
    profile = DeviceProfile(id=1, name="p", policy=policy)  # type: ignore[call-arg]
    found = gifts_for(profile, request(amended=amended), "d")
    assert found is not None
    assert (found.attributes, found.said) == ({SERVER: {"erp": 1}}, {SERVER: {"erp": 7}})
    assert found.groups == ("meters", "east")


def test_settings_that_changed_are_read_anew() -> None:
    """A profile of the same number with other settings gives the other ones."""
    assert filled("one") == "one"
    assert filled("two") == "two"


words = st.text(max_size=300)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("abc") | words, inner, max_size=3)
    ),
    max_leaves=8,
)
blanks = st.sampled_from(["{name}", "{serial}", "{mac}", "{hardware.a}", "{hardware.a.b-c}", "x "])


@settings(max_examples=60, deadline=None)
@given(st.lists(blanks, max_size=MOST_BLANKS), st.dictionaries(words, trees, max_size=4))
def test_whatever_a_stranger_tells_the_results_are_bounded_and_printable(
    parts: list[str], hardware: dict[str, object]
) -> None:
    """No control characters, no endless text; names that are given are names."""
    text = "".join(parts)
    hardware |= {"serial": hardware.get("serial", "\x1b[31m" * 100)}
    value = filled(text, hardware)
    assert isinstance(value, str)
    assert is_plain(value)
    assert len(value) <= 255 * MOST_BLANKS
    found = gifts(hardware, customer=text, label=text, groups=(text,))
    for given_name in (found.customer, found.label, *found.groups) if found else ():
        assert not given_name or is_device_name(given_name)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="{}nameserialhardware.x1_- ", max_size=60))
def test_a_text_is_filled_as_written_or_refused_when_saved(text: str) -> None:
    """Of a text that is taken nothing but its blanks is changed."""
    try:
        template = template_of(text)
    except ValueError:
        return
    again = template.fill(lambda blank: "{" + blank + "}")
    assert again == text.replace("{{", "{").replace("}}", "}")
