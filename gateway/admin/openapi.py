"""The OpenAPI 3.1 document, made from the routes and the types of their bodies.

What a route's `Operation` says is all there is; this adds what any answer of the listener may be: a
body that is too large, encoded or late, a gateway that is busy or broken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from types import UnionType
from typing import Any, Final, TypeAlias, Union, get_args, get_origin

import msgspec

from gateway.admin.errors import ErrorBody
from gateway.core.model import Secret
from gateway.wire.operation import Answer, Operation
from gateway.wire.route import Route

Json: TypeAlias = dict[str, Any]

VERSION: Final = "3.1.0"
_JSON: Final = "application/json"
_NAME = re.compile(r"\{([^{}]*)\}")
_REF: Final = "#/components/schemas/{name}"
_TEXT: Final[Json] = {"type": "string", "minLength": 1}
"""A segment of a path: an empty one is found by no route."""
_BODIES: Final[Mapping[Any, str]] = {str: "text/plain", bytes: "application/octet-stream"}
"""Bodies of requests that are no JSON."""
_EXPLAINED: Final = frozenset({400, 404, 405, 415, 429, 503})
"""Errors that always have a body, of the listener's own when the route gives none."""

SECURITY: Final[Json] = {
    "login": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Authorization",
        "description": "`Bearer` and the token of a login, or `ApiKey` and a key for scripts.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The token of a login in the usual header.",
    },
}
"""How administrators log in."""
OTHER_SECURITY: Final[Json] = {
    "oauth": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token of `POST /oauth2/token`, or a key for scripts.",
    },
}
"""Named by the operations that take it (`Operation.security`)."""


ANY_TIME: Final[Mapping[int, Answer]] = {
    500: Answer("It broke here, or a bound of the device is reached"),
    503: Answer("Busy, or the store cannot be written: come again after `Retry-After`"),
}
"""What every route may answer."""

WITH_A_BODY: Final[Mapping[int, Answer]] = {
    400: Answer("The body cannot be understood"),
    408: Answer("The body did not arrive in time", body=ErrorBody),
    413: Answer("The body is too large", body=str),
    415: Answer("The body has a Content-Encoding"),
}
"""What a route may answer whose requests have a body."""


class Place(msgspec.Struct, frozen=True):
    """An operation at one address."""

    method: str
    path: str
    route: Route
    operation: Operation
    number: int
    """Which of the route's addresses it is, from 0."""


def document(
    routes: Iterable[Route],
    *,
    title: str,
    version: str,
    servers: Sequence[str] = ("/",),
    about: str = "",
) -> Json:
    """The document of all `routes` that have an `operation`, as plain JSON values.

    Raises `ValueError` for two routes at one address, and for a name that is used twice.
    """
    found = list(places(routes))
    schemas = _Schemas(found)
    paths: dict[str, Json] = {}
    for place in found:
        item = paths.setdefault(place.path, {})
        if place.method in item:
            raise ValueError(f"two routes are at {place.method} {place.path}")
        item[place.method] = _operation(place, schemas)
    tags = dict.fromkeys(place.operation.tag for place in found)
    info = {"title": title, "version": version}
    return {
        "openapi": VERSION,
        "info": {**info, "description": about} if about else info,
        "servers": [{"url": url} for url in servers],
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": {"schemas": schemas.components, "securitySchemes": SECURITY | OTHER_SECURITY},
    }


def places(routes: Iterable[Route]) -> Iterator[Place]:
    """Where the operations are found over HTTP."""
    for route in routes:
        if route.operation is None:
            continue
        for number, address in enumerate(route.http):
            method, _, path = address.partition(" ")
            yield Place(method.lower(), path, route, route.operation, number)


class _Schemas:
    """The schemas of all types that `found` speaks of, made together so that names are shared."""

    def __init__(self, found: Sequence[Place]) -> None:
        types: list[Any] = [ErrorBody]
        for place in found:
            types += _types(place.operation)
        unique = list({id(one): one for kind in types for one in _choices(kind)}.values())
        made, components = msgspec.json.schema_components(
            unique, schema_hook=_hook, ref_template=_REF
        )
        self._made = {id(one): schema for one, schema in zip(unique, made, strict=True)}
        self._kept = unique  # an id is a type's as long as the type lives
        self.components = dict(sorted(components.items()))

    def of(self, kind: Any) -> Json:
        made = [self._made[id(one)] for one in _choices(kind)]
        return made[0] if len(made) == 1 else {"anyOf": made}


def _choices(kind: Any) -> tuple[Any, ...]:
    """The types of a union, one by one: of structs without tags msgspec takes no two at once."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _types(operation: Operation) -> Iterator[Any]:
    yield from (answer.body for answer in ANY_TIME.values())
    yield from (answer.body for answer in WITH_A_BODY.values())
    yield from (answer.body for answer in operation.answers.values())
    yield from (query.type for query in operation.query)
    yield from (kind for kind in operation.path.values() if not isinstance(kind, str))
    yield operation.body
    yield from operation.media.values()


def _hook(kind: type) -> Json:
    """The schema of a type that msgspec does not know."""
    if kind is Secret:
        return {"type": "string", "format": "password"}
    raise NotImplementedError(f"there is no schema of {kind.__name__}")


def _operation(place: Place, schemas: _Schemas) -> Json:
    operation = place.operation
    told: Json = {
        "operationId": f"{place.route.name}.{place.number}" if place.number else place.route.name,
        "summary": operation.summary,
        "tags": [operation.tag],
    }
    if operation.about:
        told["description"] = operation.about
    parameters = [*_path(place, schemas), *_query(operation, schemas)]
    if parameters:
        told["parameters"] = parameters
    if operation.body is not None:
        told["requestBody"] = _body(operation, schemas)
    told["responses"] = _responses(place, schemas)
    needed = operation.security or tuple(SECURITY)
    told["security"] = [] if operation.public else [{name: []} for name in needed]
    return told


def _path(place: Place, schemas: _Schemas) -> Iterator[Json]:
    for name in _NAME.findall(place.path):
        said = place.operation.path.get(name, "")
        told: Json = {"name": name, "in": "path", "required": True}
        if isinstance(said, str):
            yield {**told, **({"description": said} if said else {}), "schema": _TEXT}
        else:
            yield {**told, "schema": schemas.of(said)}


def _query(operation: Operation, schemas: _Schemas) -> Iterator[Json]:
    for query in operation.query:
        told: Json = {
            "name": query.name,
            "in": "query",
            "required": query.required,
            "description": query.about,
            "schema": schemas.of(query.type),
        }
        if query.example is not None:
            told["example"] = query.example
        yield told


def _body(operation: Operation, schemas: _Schemas) -> Json:
    content: Json = {"schema": schemas.of(operation.body)}
    if operation.body_example is not None:
        content["example"] = operation.body_example
    media = _BODIES.get(operation.body, _JSON)
    others = {other: {"schema": schemas.of(kind)} for other, kind in operation.media.items()}
    return {"required": operation.body_required, "content": {media: content, **others}}


def _responses(place: Place, schemas: _Schemas) -> Json:
    operation = place.operation
    answers = {**ANY_TIME, **operation.answers}
    if place.method in ("post", "put"):
        answers = {**WITH_A_BODY, **answers}
    return {str(code): _response(code, answers[code], schemas) for code in sorted(answers)}


def _response(code: int, answer: Answer, schemas: _Schemas) -> Json:
    told: Json = {"description": answer.about or HTTPStatus(code).phrase}
    content: Json = {}
    if answer.media:
        body = {"type": "string"} if answer.body is None else schemas.of(answer.body)
        content[answer.media] = {"schema": body}
    elif answer.body is not None:
        content[_JSON] = {"schema": schemas.of(answer.body)}
    if code in _EXPLAINED:
        content.setdefault(_JSON, {"schema": schemas.of(ErrorBody)})
    if content:
        told["content"] = content
    return told
