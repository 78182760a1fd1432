"""What may break, as opposed to what may be refused.

    GatehouseError
    ├── StoreUnavailable     nothing was written and nothing was answered; try again
    ├── Overloaded           a bound is reached; try again later
    ├── CredentialsGone      the session's credentials were changed or its device removed
    ├── KeyTaken             a provision key is already another profile's
    ├── Conflict             what an operator asks for collides with what there is: its `cause`
    ├── Invalid              what an operator asks for is not possible; the message says why
    ├── Forbidden            the actor lacks a permission
    └── ConfigError          a file or setting cannot be used; the message says where and what to do

Expected outcomes of a decision (`Refused`) are values and are not here.
"""

from enum import StrEnum


class GatehouseError(Exception):
    """Every error this product raises on purpose."""


class StoreUnavailable(GatehouseError):
    """The store could not commit (disk full, read-only, locked). Nothing of the call is on disk."""


class Overloaded(GatehouseError):
    """A queue bound by the configuration is full."""


class CredentialsGone(GatehouseError):
    """The credentials a session logged in with no longer exist."""


class ConfigError(GatehouseError):
    """A configuration or profile file, or a setting, cannot be used.

    The message is written for a person: where (file and line), what is wrong, what to do.
    """


class KeyTaken(GatehouseError):
    """A provision key is already another profile's. Keys are unique over the whole store."""


class Cause(StrEnum):
    """What an operator's change collided with."""

    NAME_TAKEN = "name_taken"
    CREDENTIALS_TAKEN = "credentials_taken"
    VERSION = "version"
    """It was changed since it was read."""
    IN_USE = "in_use"
    READ_ONLY = "read_only"
    """It is defined by a file; the message names it."""
    GONE = "gone"
    """It is not there (any more), or out of the actor's sight."""


class Conflict(GatehouseError):
    """What an operator asks for collides with what there is. Nothing was changed."""

    def __init__(self, cause: Cause, message: str = "") -> None:
        super().__init__(message or cause.value.replace("_", " "))
        self.cause = cause


class Invalid(GatehouseError):
    """What an operator asks for is not possible. The message is a sentence for that person."""


class Forbidden(GatehouseError):
    """The actor lacks a permission. The message names it."""
