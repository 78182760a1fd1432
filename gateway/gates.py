"""What requests pass on their way to a birth, made from the configuration: one of each."""

from __future__ import annotations

from gateway.clock import now_ms
from gateway.config import Config
from gateway.core.admitting import Admitting
from gateway.core.awaiting import Awaiting
from gateway.core.certifying import Certifier
from gateway.core.gates import Gates
from gateway.core.guesses import Guesses, Leniency
from gateway.core.hooking import BeforeHooks
from gateway.core.limits import parse_rate
from gateway.core.pacing import Pacer, Paces
from gateway.core.reprovisioning import Reprovisioner
from gateway.core.tokens import new_token
from gateway.settings import ProvisioningSettings
from gateway.store.sql_admission import SqlAdmission
from gateway.store.sql_approvals import SqlApprovals
from gateway.store.sql_reprovisionings import SqlReprovisionings
from gateway.store.sql_store import SqlStore


def open_gates(
    config: Config,
    store: SqlStore,
    before: BeforeHooks | None = None,
    certifier: Certifier | None = None,
) -> Gates:
    """The gates of a process over `store`.

    Without `before` no hook is asked, without `certifier` nothing is signed for known devices.
    """
    awaiting = Awaiting(SqlApprovals(store))
    return Gates(
        before=before,
        guesses=Guesses(leniency(config.provisioning)),
        pacer=Pacer(paces(config.provisioning)),
        admitting=Admitting(SqlAdmission(store)),
        awaiting=awaiting,
        reprovisioner=Reprovisioner(
            SqlReprovisionings(store),
            clock=now_ms,
            new_token=new_token,
            awaiting=awaiting,
            certifier=certifier,
        ),
    )


def leniency(settings: ProvisioningSettings) -> Leniency:
    """How many wrong secrets are forgiven."""
    return Leniency(
        free=settings.wrong_free,
        more=settings.wrong_more,
        longest_wait_s=settings.longest_wait_s,
        shut_s=settings.shut_s,
        forget_s=settings.forget_s,
        most=settings.most_remembered,
    )


def paces(settings: ProvisioningSettings) -> Paces:
    """How often right secrets may be shown."""
    return Paces(
        secret=parse_rate(settings.secret),
        profile=parse_rate(settings.profile),
        address=parse_rate(settings.address),
        organisation=parse_rate(settings.organisation),
    )
