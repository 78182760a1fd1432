"""Provisioning requests: who may ask, how it ends, and what is counted and logged of it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from gateway.core.awaiting import backoff_s
from gateway.core.births import Births
from gateway.core.certifying import Certifier
from gateway.core.door import Door
from gateway.core.gates import Gates
from gateway.core.model import (
    PLAIN_POLICY,
    AnswerMembers,
    FleetTicket,
    Policy,
    Provisioned,
    ProvisionKey,
    ProvisionRequest,
    ProvisionResult,
    ProvisionToken,
    ProvisionType,
    RefusalReason,
    Refused,
    Rehearsal,
    Secret,
    TicketKind,
)
from gateway.core.names import printable
from gateway.core.ports import Clock, NewToken, Store, Templates
from gateway.core.refusals import REFUSALS
from gateway.core.refusing import Refuser
from gateway.core.rehearsing import Notes, quiet, turned_away
from gateway.core.strategies import Strategies, log_device
from gateway.core.token_claims import TokenClaims

log = structlog.get_logger()

_NO_MEMBERS = AnswerMembers()


class Provisioner:
    """Turns a `ProvisionRequest` into credentials, or says why not.

    `readable(text)` tells whether a certificate text can be parsed; only profiles with
    `require_readable_certificate`, and the warning in the event, depend on it. Without a
    `certifier` signing requests are refused, without `templates` all tokens are. `births` is told
    how each request ended. `replaced` is called when a device's older token is gone, `reopened`
    with the id of credentials it may have used before, whose next use is the first again. `gates`
    say who may come.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        new_token: NewToken,
        readable: Callable[[str], bool],
        certifier: Certifier | None = None,
        births: Births | None = None,
        templates: Templates | None = None,
        replaced: Callable[[], None] = lambda: None,
        reopened: Callable[[Secret], None] = lambda _: None,
        gates: Gates | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._births = births or Births()
        self._gates = gates = gates or Gates()
        self._refuser = Refuser(store, clock)
        self._strategies = Strategies(
            store,
            clock=clock,
            new_token=new_token,
            readable=readable,
            certifier=certifier,
            refuser=self._refuser,
            gates=gates,
            reopened=reopened,
        )
        self.door = Door(store, clock, guesses=gates.guesses, pacer=gates.pacer)
        self._tokens = TokenClaims(
            store,
            clock=clock,
            new_token=new_token,
            refuser=self._refuser,
            templates=templates,
            replaced=replaced,
        )

    async def provision(self, request: ProvisionRequest) -> ProvisionResult:
        """Decide. A `Provisioned` is on disk, with its event, before this returns.

        Raises `StoreUnavailable` or `Overloaded`; then nothing happened.
        """
        if request.trial:
            raise ValueError("what is asked on trial is rehearsed")
        strategy, result = await self._decide(request)
        if isinstance(result, Refused):
            self._births.count(request.peer.wire, strategy, result)
            _log_refused(request, result)
        elif not result.again:
            self._births.count(request.peer.wire, strategy, result)
            log_device("device.provisioned", request, result)
        return result

    async def prove(self, request: ProvisionRequest, proof: ProvisionKey) -> FleetTicket | Refused:
        """The fleet secret that is shown, for who has to know it before anything is asked for.

        A refusal is counted and written down, as by `provision`.
        """
        ticket = await self.door.prove(request, proof)
        if isinstance(ticket, Refused):
            await self._refuser.refuse(request, ticket)
            self._births.count(request.peer.wire, None, ticket)
            _log_refused(request, ticket)
        return ticket

    async def rehearse(self, request: ProvisionRequest) -> Rehearsal:
        """What would become of a request with a fleet's secret. Nothing is changed by it.

        But a wrong secret is one more wrong secret, and written down. Raises as `provision` does.
        """
        proof, now = request.proof, self._clock()
        if isinstance(proof, ProvisionToken):
            raise ValueError("only a fleet's secret is rehearsed")
        name = request.device_name
        if name is not None and not name.strip():
            return Rehearsal(refusal=Refused(RefusalReason.NAME_BLANK))
        request = msgspec.structs.replace(request, trial=True)
        ticket = await self.door.admit(request, proof)
        if isinstance(ticket, Refused):
            if not REFUSALS[ticket.reason].proven:
                await self._refuser.refuse(request, ticket)
            return turned_away(ticket)
        notes = Notes(ticket)
        twin = self._strategies.behind(quiet(self._gates, notes), lambda: now)
        with self._store.on_trial():
            result = await twin.admitted(ticket, request)
        there = None
        result = _told_in_full(result, ticket.profile.policy, request)
        if isinstance(result, Provisioned):
            there = await self._store.known_device(result.device.id)
        return notes.rehearsal(request, result, there.device if there else None)

    async def _decide(
        self, request: ProvisionRequest
    ) -> tuple[ProvisionType | TicketKind | None, ProvisionResult]:
        """How it ends, and by which strategy; None when it never came to one."""
        if isinstance(request.proof, ProvisionToken):
            return await self._tokens.provision(request, request.proof)
        # The order of these checks is the contract's (section 2.3).
        name = request.device_name
        if name is not None and not name.strip():
            return None, await self._refuser.refuse(request, Refused(RefusalReason.NAME_BLANK))
        ticket = await self.door.admit(request, request.proof)
        if isinstance(ticket, Refused):
            return None, await self._refuser.refuse(request, ticket)
        result = await self._strategies.admitted(ticket, request)
        if ticket.profile.policy is not PLAIN_POLICY:
            result = _told_in_full(result, ticket.profile.policy, request)
        return ticket.profile.provision_type, result


def _told_in_full(
    result: ProvisionResult, policy: Policy, request: ProvisionRequest
) -> ProvisionResult:
    """What who has shown a right secret is told besides: also when to come again, where the store
    found out that an operator's yes is gone."""
    if isinstance(result, Provisioned):
        if policy.answer == _NO_MEMBERS:
            return result
        return msgspec.structs.replace(result, members=policy.answer)
    wait_s = result.retry_after_s
    if result.reason is RefusalReason.APPROVAL_PENDING and not wait_s:
        name = (request.device_name or "").strip()
        wait_s = backoff_s(name, 1, policy.admission.approval_backoff_s)
    return msgspec.structs.replace(result, retry_after_s=wait_s, detailed=policy.detailed_refusals)


def _log_refused(request: ProvisionRequest, refused: Refused) -> None:
    log.info(
        "device.refused",
        wire=request.peer.wire,
        peer=request.peer.address,
        request=request.peer.request,
        device=printable(request.device_name or ""),
        reason=refused.reason.value,
    )
