"""A profile's `[blynk]` table: what is read, and how mistakes read."""

from __future__ import annotations

from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ConfigError
from gateway.core.model import DeviceProfile, ProfileTransport
from gateway.core.names import is_device_name
from gateway.dialects.blynk.profile import BlynkTemplate, prove_section, read_section
from gateway.dialects.blynk.section import Section, StreamType
from gateway.opening import VALIDATORS
from gateway.profiles import read_profile

ID = "TMPLmeter0001"


SHIPPED = Path(__file__).parents[3] / "profiles" / "blynk.toml"


def template(**section: Any) -> BlynkTemplate:
    profile = DeviceProfile(id=7, name="Meter", sections={"blynk": {}})
    return BlynkTemplate(profile, read_section({"template_id": ID, **section}))


def mistake(**section: Any) -> str:
    with pytest.raises(ValueError, match=r"^[a-z_]+ ") as caught:
        prove_section({"template_id": ID, **section}, ProfileTransport.DEFAULT)
    text = str(caught.value)
    assert text.endswith((".", "?"))
    return text


def test_the_smallest_table() -> None:
    """An id is enough: devices are named by their profile and number."""
    found = template()
    assert found.section == Section(template_id=ID)
    assert found.template.device_name == "Meter {id}"


def test_ids_are_places_where_none_are_given() -> None:
    """From 1, in the order of the file; keys are names where none are given."""
    found = template(
        datastreams=[
            {"pin": 5, "name": "a"},
            {"name": "b", "id": 40, "key": "bee"},
            {"pin": 0, "name": "c", "default": 3},
        ],
        metadata=[{"name": "Serial"}, {"name": "Limit", "type": "Number", "default": 1, "id": 9}],
    )
    assert {number: one.name for number, one in found.by_id.items()} == {1: "a", 40: "b", 3: "c"}
    assert {pin: one.name for pin, one in found.by_pin.items()} == {5: "a", 0: "c"}
    assert [one.series for one in found.streams] == ["a", "bee", "c"]
    assert [one.label for one in found.streams] == ["v5", "b", "v0"]
    assert {number: one.name for number, one in found.field_by_id.items()} == {
        1: "Serial",
        9: "Limit",
    }
    assert found.template.attributes == {"Limit": 1}


def test_a_profile_with_a_long_name() -> None:
    """Its devices' names, which have the number too, are none that ThingsBoard would refuse."""
    profile = DeviceProfile(id=7, name="x" * 255, sections={})
    made = BlynkTemplate(profile, read_section({"template_id": ID})).template
    assert is_device_name(made.device_name.replace("{id}", "2147483647") + "-spare1")


def test_for_whom_it_is() -> None:
    """For those below the profile's organisation, or below those that are named."""
    found = template()
    assert found.is_for("/1/")
    assert found.is_for("/1/5/9/")
    narrow = template(organisations=[5, 6])
    assert [narrow.is_for(path) for path in ("/1/", "/1/5/", "/1/6/9/", "/1/7/")] == [
        *(False, True, True, False)
    ]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"template_id": "abc"},
            "template_id must be 4 to 32 characters of A-Z, a-z, 0-9, _ and -.",
        ),
        ({"template_id": "TMPL 0001"}, "template_id must be"),
        ({"template_id": 7}, "template_id is not as it should be (template_id): Expected `str`"),
        ({"event": []}, "event is no setting of a template. Did you mean `events`?"),
        ({"zzz": 1}, "zzz is no setting of a template. Known here: template_id, "),
        ({"device_name": "Meter"}, "device_name needs {id}"),
        ({"device_name": "{id}" + "x" * 200}, "device_name has at most 200"),
        ({"device_name": "{id}\n"}, "device_name has at most 200"),
        ({"device_name": "{id}" * 21}, "device_name has at most 200"),
        ({"device_name": "<b>{id}</b>"}, "device_name may hold no markup"),
        ({"device_name": "${x} {id}"}, "device_name may hold no markup"),
        ({"organisations": [1, 1]}, "organisations has the number `1` twice."),
        ({"organisations": [0]}, "organisations are numbers from 1 on"),
        ({"organisations": ["x"]}, "organisations is not as it should be (organisations[0]"),
        ({"gateway": 1}, "gateway is not as it should be"),
    ],
)
def test_mistakes_of_the_table(section: dict[str, Any], said: str) -> None:
    assert mistake(**section).startswith(said)


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        *(({"name": name}, f"`{name}` is no name") for name in ("", "a/b", "a+", "#", "a,b", " a")),
        *(({"name": name}, "is no name") for name in ("a\0", "a\n", "x" * 65)),
        ({"pin": 1}, "(datastreams[0]): Object missing required field `name`"),
        ({"name": "a", "pins": 1}, "unknown field `pins`"),
        ({"name": "a", "pin": 256}, "`a` has a pin that is not from 0 to 255"),
        ({"name": "a", "pin": -1}, "`a` has a pin"),
        ({"name": "a", "pin": True}, "(datastreams[0].pin): Expected `int | null`, got `bool`"),
        ({"name": "a", "id": -1}, "`a` has an id"),
        ({"name": "a", "type": "float"}, "(datastreams[0].type): Invalid enum value 'float'"),
        ({"name": "a", "min": 2, "max": 1}, "`a` has a min that is greater than its max"),
        ({"name": "a", "type": "string", "max": 1}, "`a` has a min or max, but is no number"),
        ({"name": "a", "min": nan}, "`a` has a min or max that is no number"),
        ({"name": "a", "max": inf}, "`a` has a min or max that is no number"),
        ({"name": "v3"}, "`v3` has the name of a pin, but no pin"),
        ({"name": "a", "values": ["x"]}, "`a` has values, but is no enum"),
        ({"name": "a", "type": "enum"}, "`a` needs 1 to 256 values"),
        ({"name": "a", "type": "enum", "values": ["x", "x"]}, "no two alike"),
        ({"name": "a", "type": "enum", "values": ["1"]}, "`a` has a value that is not a name"),
        ({"name": "a", "type": "enum", "values": [""]}, "`a` has a value that is not a name"),
        ({"name": "a", "default": "x"}, "`a` has a default that it may not have"),
        ({"name": "a", "max": 1, "default": 2}, "`a` has a default that it may not have"),
        ({"name": "a", "type": "integer", "default": 0.5}, "`a` has a default"),
        ({"name": "a", "type": "location", "default": [1.0]}, "`a` has a default"),
        ({"name": "a", "type": "string", "default": "x" * 1025}, "`a` has a default"),
        ({"name": "a", "key": "x" * 256}, "`a` has a key of more than 255"),
        ({"name": "a", "key": "event.x"}, "`a` is kept where events are"),
    ],
)
def test_mistakes_of_a_datastream(stream: dict[str, Any], said: str) -> None:
    told = mistake(datastreams=[stream])
    assert told.startswith("datastreams ")
    assert said in told


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"name": "a"}, "datastreams has the name `a` twice."),
        ({"name": "b", "pin": 1}, "datastreams has the pin `1` twice."),
        ({"name": "b", "id": 1}, "datastreams has the id `1` twice."),
        ({"name": "b", "key": "a"}, "datastreams has the key `a` twice."),
    ],
)
def test_two_that_are_alike(second: dict[str, Any], said: str) -> None:
    """What a place in the list or a name stands in for counts too."""
    assert mistake(datastreams=[{"name": "a", "pin": 1}, second]) == said


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([{"name": "a"}, {"name": "a"}], "metadata has the name `a` twice."),
        ([{"name": "a", "id": 2}, {"name": "b"}], "metadata has the id `2` twice."),
        ([{"name": "Device Name"}], "metadata has a mistake: `Device Name` is there without"),
        ([{"name": "a/b"}], "metadata has a mistake: `a/b` is no name"),
        (
            [{"name": "a", "default": 1}],
            "metadata has a mistake: `a` has a default that is no Text",
        ),
        (
            [{"name": "a", "type": "Number", "default": "1"}],
            "metadata has a mistake: `a` has a default that is no Number",
        ),
        *(
            (
                [{"name": "a", "type": "Number", "default": number}],
                "metadata has a mistake: `a` has a default that is no Number",
            )
            for number in (nan, inf, 2**63, -(2**63) - 1)
        ),
        (
            [{"name": "a", "type": "Email", "default": "ann"}],
            "metadata has a mistake: `a` has a default that is no Email",
        ),
        ([{"name": "a", "default": "x" * 1025}], "metadata has a mistake: `a` has a default of"),
        ([{"name": "a", "type": "text"}], "metadata is not as it should be (metadata[0].type)"),
        ([{"name": str(number)} for number in range(101)], "metadata may be at most 100."),
    ],
)
def test_mistakes_of_metadata(fields: list[dict[str, Any]], said: str) -> None:
    assert mistake(metadata=fields).startswith(said)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([{"code": "a"}, {"code": "a"}], "events has the code `a` twice."),
        ([{"code": "a b"}], "events has a mistake: `a b` has a code that is not"),
        ([{"code": ""}], "events has a mistake: `` has a code that is not"),
        ([{"code": "a", "name": "x" * 256}], "events has a mistake: `a` has a name of more"),
        ([{"code": str(number)} for number in range(101)], "events may be at most 100."),
    ],
)
def test_mistakes_of_events(events: list[dict[str, Any]], said: str) -> None:
    assert mistake(events=events).startswith(said)


def test_how_many_datastreams_there_may_be() -> None:
    streams = [{"name": str(number)} for number in range(257)]
    assert len(template(datastreams=streams[:256]).streams) == 256
    assert mistake(datastreams=streams) == "datastreams may be at most 256."


def test_the_line_of_a_mistake(tmp_path: Path) -> None:
    """A mistake in a file is told with its line, and what is wrong there."""
    path = tmp_path / "meter.toml"
    text = SHIPPED.read_text()
    path.write_text(text.replace("pin = 1", "pin = 0"))
    with pytest.raises(ConfigError) as caught:
        read_profile(path, {}, validators=VALIDATORS)
    line = text.split("\n").index("[[blynk.datastreams]]") + 1
    assert str(caught.value) == (f"{path}:{line}: [blynk] datastreams has the pin `0` twice.")


def test_the_shipped_template() -> None:
    """The one that comes with the product shows every kind of setting."""
    found = read_section(read_profile(SHIPPED, {}, validators=VALIDATORS).sections["blynk"])
    assert {one.type for one in found.datastreams} == set(StreamType)
    assert found.metadata
    assert found.events


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
STREAM = st.fixed_dictionaries(
    {"name": JSON},
    optional=dict.fromkeys(("pin", "id", "type", "min", "max", "default", "values", "key"), JSON),
)


@given(st.dictionaries(st.sampled_from(Section.__struct_fields__), JSON), st.lists(STREAM))
def test_whatever_is_in_the_table(section: dict[str, Any], streams: list[Any]) -> None:
    """It is read, or a `ValueError` says in a sentence which key is at fault."""
    whole = {"template_id": ID, "datastreams": streams, **section}
    try:
        read_section(whole)
    except ValueError as exc:
        key, _, rest = str(exc).partition(" ")
        assert key in whole
        assert rest.endswith((".", "?"))
