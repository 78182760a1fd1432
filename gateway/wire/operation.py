"""What an operation is, for people: the OpenAPI document is made from these and the routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class Query(Struct, frozen=True):
    """One query parameter. `type` is a Python type msgspec can make a JSON schema of."""

    name: str
    about: str
    type: Any = str
    required: bool = False
    example: Any = None


class Answer(Struct, frozen=True):
    """One answer. `body` is a Python type for JSON; None for an empty body; `media` another kind
    of content than JSON (`text/plain`), whose body is then text or bytes, or JSON of `body`."""

    about: str
    body: Any = None
    media: str = ""


class Operation(Struct, frozen=True, kw_only=True):
    """A route as a document shows it, over HTTP.

    `answers` is by HTTP status, all there are; those that every route may give (500, 503) are
    added by the document. `body` is a Python type for a JSON request body, None for none;
    `body_required` False: it may be left out. `media` are other kinds of content a body may be of,
    each with the type of what it says. `public`: nobody needs to log in for it. `path` describes
    parameters of the path by name (their type, or a description); a name that is not here is a
    text. `security` are names of the document's ways to log in, one of which is needed; none: any
    of an administrator's.
    """

    summary: str
    tag: str
    answers: Mapping[int, Answer]
    about: str = ""
    body: Any = None
    body_required: bool = True
    body_example: Any = None
    media: Mapping[str, Any] = {}
    query: tuple[Query, ...] = ()
    path: Mapping[str, Any] = {}
    public: bool = False
    security: tuple[str, ...] = ()
