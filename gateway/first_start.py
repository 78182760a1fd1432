"""The first start of a store: somebody is made who may log in."""

from __future__ import annotations

from gateway.clock import now_ms
from gateway.core.model import Secret, User
from gateway.core.tokens import new_token
from gateway.store.sql_store import SqlStore


async def first_administrator(
    store: SqlStore, email: str, password: Secret | None
) -> tuple[User, Secret] | None:
    """See `People.first_administrator`. Where there is any user, nothing is loaded for it.

    Raises `Invalid` for a password that is none.
    """
    if await store.driver.point("any_user") is not None:
        return None
    from gateway.core.people import People
    from gateway.passwords import Argon2Passwords
    from gateway.store.sql_people import SqlPeople

    hasher = Argon2Passwords()
    try:
        people = People(SqlPeople(store), clock=now_ms, new_token=new_token, hasher=hasher)
        return await people.first_administrator(email, password)
    finally:
        hasher.close()
