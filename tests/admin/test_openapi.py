"""The document says of each operation where it is, what it takes and what it answers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct

from gateway.admin.openapi import document
from gateway.core.model import Secret
from gateway.wire.operation import Answer, Operation, Query
from gateway.wire.route import Route


class Thing(Struct, rename="camel"):
    """A thing."""

    thing_name: str
    size: int = 0


class Other(Struct):
    name: str


async def handler(call: Any) -> Any: ...


def make(*http: str, name: str = "things", **operation: Any) -> Route:
    settings = {"summary": "S", "tag": "T", "answers": {200: Answer("Good.")}, **operation}
    return Route(name=name, handler=handler, http=http, operation=Operation(**settings))


def told(*routes: Route, **options: Any) -> dict[str, Any]:
    return document(routes, title="Gate", version="1.2", **options)


def test_it_is_openapi_3_1():
    """Title, version, servers and tags are as given; a route without an operation is left out."""
    silent = Route(name="silent", handler=handler, http=("GET /silent",))
    made = told(make("GET /a", tag="B"), silent, make("GET /b", name="b", tag="A"), servers=["/x"])
    assert made["openapi"].startswith("3.1")
    assert made["info"] == {"title": "Gate", "version": "1.2"}
    assert made["servers"] == [{"url": "/x"}]
    assert [tag["name"] for tag in made["tags"]] == ["B", "A"]
    assert list(made["paths"]) == ["/a", "/b"]


def test_parameters_of_path_and_query():
    """Names come from the path; what is said of them may be words or a type."""
    route = make(
        "GET /a/{id}/{name}",
        path={"id": int, "name": "What it is called."},
        query=(Query("page", "Which.", int, required=True, example=3),),
    )
    number, name, page = told(route)["paths"]["/a/{id}/{name}"]["get"]["parameters"]
    assert number == {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
    assert name["description"] == "What it is called."
    assert name["schema"] == {"type": "string", "minLength": 1}
    assert page == {
        "name": "page",
        "in": "query",
        "required": True,
        "description": "Which.",
        "schema": {"type": "integer"},
        "example": 3,
    }


def test_bodies_are_schemas_of_their_types():
    """A type is described once, whoever speaks of it, by the names it has in JSON."""
    route = make(
        "POST /a",
        body=Thing,
        body_required=False,
        body_example={"thingName": "x"},
        answers={200: Answer("Done.", list[Thing]), 404: Answer("None.")},
    )
    made = told(route)
    post = made["paths"]["/a"]["post"]
    thing = {"$ref": "#/components/schemas/Thing"}
    assert post["requestBody"] == {
        "required": False,
        "content": {"application/json": {"schema": thing, "example": {"thingName": "x"}}},
    }
    answer = post["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"type": "array", "items": thing}
    assert made["components"]["schemas"]["Thing"]["required"] == ["thingName"]


def test_a_body_of_several_kinds():
    """Structs without tags stand beside each other, and so may lists."""
    body = told(make("POST /a", body=Thing | Other | list[int]))["paths"]["/a"]["post"]
    schema = body["requestBody"]["content"]["application/json"]["schema"]
    assert [one.get("$ref", one.get("type")) for one in schema["anyOf"]] == [
        "#/components/schemas/Thing",
        "#/components/schemas/Other",
        "array",
    ]


def test_text_bytes_and_secrets():
    """A body that is no JSON says what it is; a secret is a password."""

    class Login(Struct):
        password: Secret

    made = told(make("POST /a", body=bytes), make("POST /b", name="b", body=Login))
    assert list(made["paths"]["/a"]["post"]["requestBody"]["content"]) == [
        "application/octet-stream"
    ]
    secret = made["components"]["schemas"]["Login"]["properties"]["password"]
    assert secret == {"type": "string", "format": "password"}


def test_answers_of_any_route_are_added():
    """500 and 503 for all; with a body also those that tell of the body. Its own words go first."""
    made = told(make("GET /a"), make("POST /a", name="b", answers={413: Answer("Mine.", str)}))
    get, post = made["paths"]["/a"]["get"]["responses"], made["paths"]["/a"]["post"]["responses"]
    assert list(get) == ["200", "500", "503"]
    assert list(post) == ["400", "408", "413", "415", "500", "503"]
    assert post["413"]["description"] == "Mine."
    error = {"$ref": "#/components/schemas/ErrorBody"}
    assert get["503"]["content"]["application/json"]["schema"] == error
    assert "content" not in get["500"]


def test_other_media():
    """An answer that is no JSON is a text of its media type; errors may be JSON beside it."""
    route = make(
        "GET /a", answers={200: Answer("T.", media="text/csv"), 404: Answer("", media="t/p")}
    )
    made = told(route)["paths"]["/a"]["get"]["responses"]
    assert made["200"]["content"] == {"text/csv": {"schema": {"type": "string"}}}
    assert set(made["404"]["content"]) == {"t/p", "application/json"}
    assert made["404"]["description"] == "Not Found"


def test_who_must_log_in():
    """A public operation wants nobody, any other an administrator, or whom it says."""
    made = told(
        make("GET /a"),
        make("GET /b", name="b", public=True),
        make("GET /c", name="c", security=("oauth",)),
    )
    assert made["paths"]["/b"]["get"]["security"] == []
    assert made["paths"]["/c"]["get"]["security"] == [{"oauth": []}]
    assert made["paths"]["/a"]["get"]["security"] == [{"login": []}, {"bearer": []}]
    assert {"oauth", "login", "bearer"} == set(made["components"]["securitySchemes"])


def test_each_address_has_an_id_of_its_own():
    """A route found at two addresses is two operations; two routes at one are a mistake."""
    made = told(make("GET /a", "GET /b"))
    ids = [item["get"]["operationId"] for item in made["paths"].values()]
    assert ids == ["things", "things.1"]
    with pytest.raises(ValueError, match="get /a"):
        told(make("GET /a"), make("GET /a", name="again"))
