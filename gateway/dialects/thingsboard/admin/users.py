"""Users, as ThingsBoard's REST has them: administrators of the tenant, and users of customers.

What a user may do is said by the role; `authority` says no more than where the user stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import structs

from gateway.core.errors import Forbidden
from gateway.core.model import (
    CUSTOMER_USER,
    TENANT_ADMIN,
    Actor,
    Organisation,
    Page,
    Permission,
    User,
)
from gateway.dialects.thingsboard.admin.answers import answers
from gateway.dialects.thingsboard.admin.desk import (
    NO_PERMISSION,
    Desk,
    bad_request,
    body_of,
    json_reply,
    not_found,
)
from gateway.dialects.thingsboard.admin.finder import Finder, words
from gateway.dialects.thingsboard.admin.tokens import customer_uuid
from gateway.dialects.thingsboard.admin.user_shapes import (
    UserAnswer,
    UserBody,
    authority_asked,
    email_of,
    info_of,
    password_of,
    user_answer,
)
from gateway.dialects.thingsboard.admin.words import (
    NULL_UUID,
    PAGING,
    PageAnswer,
    page_of,
    paging_of,
    uuid_of,
    uuids_of,
)
from gateway.wire.call import Call, Reply
from gateway.wire.operation import Operation, Query
from gateway.wire.route import Route

if TYPE_CHECKING:
    from gateway.core.people import People

SEE: Final = (Permission.ORG_VIEW_USERS,)
SAVE: Final = (Permission.ORG_INVITE_USERS, Permission.ORG_EDIT_USERS)
_ORDERS: Final = {
    "email": "email",
    "name": "email",
    "createdTime": "created",
    "firstName": "first_name",
    "lastName": "last_name",
    "authority": "role",
}
_BOOLEANS: Final = {"true": True, "false": False}
EMAIL_TAKEN: Final = "User with this email already present in database!"


class UserRoutes:
    def __init__(self, people: People, finder: Finder) -> None:
        self._people = people
        self._finder = finder

    def routes(self, desk: Desk) -> tuple[Route, ...]:
        rows = (
            ("user.self", "GET /api/auth/user", self._self, (), _SELF),
            ("user.show", "GET /api/user/{userId}", self._show, (), _SHOW),
            ("user.list", _LISTS, self._list, SEE, _LIST),
            ("user.by_ids", "GET /api/users/list", self._by_ids, SEE, _BY_IDS),
            ("customer.users", _OF_CUSTOMER, self._of_customer, SEE, _CUSTOMER_LIST),
            (
                "tenant.users",
                "GET /api/tenant/{tenantId}/users",
                self._of_tenant,
                SEE,
                _TENANT_LIST,
            ),
            ("user.save", "POST /api/user", self._save, (), _SAVE),
            ("user.remove", "DELETE /api/user/{userId}", self._remove, _REMOVES, _REMOVE),
            ("user.enable", _ENABLE_PATH, self._enable, _EDITS, _ENABLE),
        )
        return tuple(
            desk.route(name, http, handler, needs=needs, operation=operation)
            for name, http, handler, needs, operation in rows
        )

    # ── looking ─────────────────────────────────────────────────────────────────────────────

    async def _self(self, call: Call, actor: Actor) -> Reply:
        if actor.user is None:
            raise not_found()
        return json_reply(await self._answer(actor.user))

    async def _show(self, call: Call, actor: Actor) -> Reply:
        """Everybody sees themselves."""
        uuid = uuid_of(call.params["userId"], "userId")
        if actor.user is not None and actor.user.uuid == uuid:
            return json_reply(await self._answer(actor.user))
        if not actor.may(*SEE):
            raise Forbidden(NO_PERMISSION)
        return json_reply(await self._answer(await self._finder.user(actor, uuid)))

    async def _list(self, call: Call, actor: Actor) -> Reply:
        """Also several by their ids: so older clients ask."""
        if "userIds" in call.query:
            return await self._by_ids(call, actor)
        return await self._page(call, actor, None)

    async def _of_customer(self, call: Call, actor: Actor) -> Reply:
        customer = await self._finder.customer(actor, call.params["customerId"])
        return await self._page(call, actor, customer)

    async def _of_tenant(self, call: Call, actor: Actor) -> Reply:
        uuid = uuid_of(call.params["tenantId"], "tenantId")
        tenant = await self._people.organisation(actor, uuid)
        if tenant is None or tenant.parent_id is not None:
            raise not_found(f"Tenant with id [{uuid}] is not found")
        return await self._page(call, actor, tenant)

    async def _page(self, call: Call, actor: Actor, of: Organisation | None) -> Reply:
        asked = paging_of(call, tuple(_ORDERS))
        found = await self._people.users(
            actor,
            organisation=of,
            page=asked.page,
            page_size=asked.page_size,
            text=asked.text,
            order=_ORDERS.get(asked.sort, "created"),
            descending=asked.descending,
        )
        data = [await self._answer(one) for one in found.data]
        page = Page(data=data, total=found.total, has_next=found.has_next)
        return json_reply(page_of(page, asked.page_size))

    async def _by_ids(self, call: Call, actor: Actor) -> Reply:
        found = [await self._people.user(actor, one) for one in uuids_of(call, "userIds")]
        return json_reply([await self._answer(one) for one in found if one is not None])

    async def _answer(self, user: User) -> UserAnswer:
        root = await self._people.root()
        stands = await self._people.organisation_numbered(user.organisation_id) or root
        return user_answer(user, stands, root.uuid)

    # ── changing ────────────────────────────────────────────────────────────────────────────

    async def _save(self, call: Call, actor: Actor) -> Reply:
        """Everybody may change their own names."""
        body = body_of(call, UserBody)
        if body.id is not None:
            return await self._update(actor, body, uuid_of(body.id.id, "userId"))
        if not actor.may(Permission.ORG_INVITE_USERS):
            raise Forbidden(NO_PERMISSION)
        stands = await self._organisation(actor, body)
        with words(EMAIL_TAKEN, "User"):
            saved = await self._people.save_user(
                actor,
                email=email_of(body),
                organisation=stands,
                role=body.role or authority_asked(body),
                first_name=body.first_name or "",
                last_name=body.last_name or "",
                info=info_of(body, "{}"),
                password=password_of(body),
            )
        return json_reply(await self._answer(saved))

    async def _update(self, actor: Actor, body: UserBody, uuid: str) -> Reply:
        """The user stays in its organisation; one that is named must be that."""
        itself = actor.user is not None and actor.user.uuid == uuid
        if not (itself or actor.may(Permission.ORG_EDIT_USERS)):
            raise Forbidden(NO_PERMISSION)
        known = await self._finder.user(actor, uuid)
        stands = await self._people.organisation_numbered(known.organisation_id)
        if stands is None:
            raise not_found()
        given = body.customer_id
        if given is not None and uuid_of(given.id, "customerId") != customer_uuid(stands):
            raise bad_request("A user stays with its customer!")
        info = info_of(body, known.info)
        with words(EMAIL_TAKEN, "User"):
            saved = await self._people.save_user(
                actor,
                email=email_of(body),
                organisation=stands,
                role=body.role or known.role,
                first_name=known.first_name if body.first_name is None else body.first_name,
                last_name=known.last_name if body.last_name is None else body.last_name,
                enabled=known.enabled,
                uuid=known.uuid,
                version=body.version,
                password=password_of(body),
                info=None if info == known.info else info,
            )
        return json_reply(await self._answer(saved))

    async def _organisation(self, actor: Actor, body: UserBody) -> Organisation:
        """Where a new user stands. Raises `Trouble` in ThingsBoard's words."""
        authority = authority_asked(body)
        uuid = uuid_of(body.customer_id.id, "customerId") if body.customer_id else NULL_UUID
        if uuid != NULL_UUID and authority == TENANT_ADMIN:
            raise bad_request("Tenant administrator can't be assigned to customer!")
        if uuid == NULL_UUID and authority == CUSTOMER_USER:
            raise bad_request("Customer user should be assigned to customer!")
        if uuid != NULL_UUID:
            return await self._finder.customer(actor, uuid)
        if not actor.is_root:
            raise Forbidden(NO_PERMISSION)
        return await self._people.root()

    async def _remove(self, call: Call, actor: Actor) -> Reply:
        await self._people.remove_user(actor, await self._finder.user(actor, call.params["userId"]))
        return Reply()

    async def _enable(self, call: Call, actor: Actor) -> Reply:
        """A disabled user's sessions are over."""
        text = call.query.get("userCredentialsEnabled", "true").lower()
        if text not in _BOOLEANS:
            raise bad_request("userCredentialsEnabled must be true or false")
        user = await self._finder.user(actor, call.params["userId"])
        stands = await self._people.organisation_numbered(user.organisation_id)
        if stands is None:
            raise not_found()
        await self._people.save_user(
            actor,
            email=user.email,
            organisation=stands,
            role=user.role,
            first_name=user.first_name,
            last_name=user.last_name,
            enabled=_BOOLEANS[text],
            uuid=user.uuid,
        )
        return Reply()


_LISTS: Final = ("GET /api/users", "GET /api/user/users")
_OF_CUSTOMER: Final = "GET /api/customer/{customerId}/users"
_ENABLE_PATH: Final = "POST /api/user/{userId}/userCredentialsEnabled"
_EDITS: Final = (Permission.ORG_EDIT_USERS,)
_REMOVES: Final = (Permission.ORG_DELETE_USERS,)

TAG: Final = "Users"
_FOUND = "The user."
_A_PAGE = "A page of users."
_SELF = Operation(
    summary="Show who is logged in",
    tag=TAG,
    answers=answers(_FOUND, UserAnswer, 401, 404),
)
_SHOW = Operation(
    summary="Show a user",
    tag=TAG,
    about="Everybody sees themselves.",
    answers=answers(_FOUND, UserAnswer, 400, 401, 403, 404),
)
_IDS = Query("userIds", "their ids, with commas between", required=True)
_LIST = Operation(
    summary="List users",
    tag=TAG,
    about="Those of the caller's organisation and below it. With `userIds` the answer is a list of "
    "these alone, and `pageSize` and `page` are left out.",
    query=tuple(structs.replace(one, required=False) for one in (*PAGING, _IDS)),
    answers=answers(_A_PAGE, PageAnswer[UserAnswer] | list[UserAnswer], 400, 401, 403),
)
_BY_IDS = Operation(
    summary="Show several users",
    tag=TAG,
    about="Those of them that the caller sees, in the order asked for; at most 1000.",
    query=(_IDS,),
    answers=answers("The users.", list[UserAnswer], 400, 401, 403),
)
_CUSTOMER_LIST = Operation(
    summary="List a customer's users",
    tag=TAG,
    query=PAGING,
    answers=answers(_A_PAGE, PageAnswer[UserAnswer], 400, 401, 403, 404),
)
_TENANT_LIST = Operation(
    summary="List the tenant's administrators",
    tag=TAG,
    query=PAGING,
    answers=answers(_A_PAGE, PageAnswer[UserAnswer], 400, 401, 403, 404),
)
_SAVE = Operation(
    summary="Make or change a user",
    tag=TAG,
    about="No mail is sent: a new user logs in with `password`, or with one that is set later. "
    "Nobody gives a role that may more than they do themselves. Everybody may change their own "
    "names.",
    body=UserBody,
    body_example={"email": "ada@example.com", "authority": "TENANT_ADMIN", "firstName": "Ada"},
    query=(Query("sendActivationMail", "there is no mail; it is not looked at"),),
    answers=answers(_FOUND, UserAnswer, 400, 401, 403, 404, 409),
)
_REMOVE = Operation(
    summary="Remove a user",
    tag=TAG,
    about="Its sessions are over, its keys worth nothing.",
    answers=answers("It is gone.", None, 400, 401, 403, 404),
)
_ENABLE = Operation(
    summary="Let a user log in, or not",
    tag=TAG,
    about="A disabled user's sessions are over.",
    query=(Query("userCredentialsEnabled", "whether it may log in", bool),),
    answers=answers("It is so.", None, 400, 401, 403, 404),
)
