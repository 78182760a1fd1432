"""What may break, as opposed to what may be refused.

    GatehouseError
    ├── StoreUnavailable     nothing was written and nothing was answered; try again
    ├── Overloaded           a bound is reached; try again later
    ├── CredentialsGone      the session's credentials were changed or its device removed
    ├── KeyTaken             a provision key is already another profile's
    └── ConfigError          a file or setting cannot be used; the message says where and what to do

Expected outcomes of a decision (`Refused`) are values and are not here.
"""


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
