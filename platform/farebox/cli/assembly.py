"""The worker with what every domain gives it to do. Composition only."""

from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth import tasks as auth
from farebox.auth.unverified import remove_unverified
from farebox.billing import welcome
from farebox.billing.exports import tasks as exports
from farebox.billing.exports.daily import export_days
from farebox.billing.exports.service import forget_old_exports
from farebox.billing.invoices.months.month_end import keep_invoices
from farebox.billing.plans import charge_plans
from farebox.billing.promotions import expire_grants
from farebox.billing.reconciliation.nightly import reconcile_nightly
from farebox.billing.stripe import tasks as stripe
from farebox.billing.stripe.account import Account
from farebox.billing.tier_rebates import settle_tiers
from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.limits.ceilings import hold_ceilings
from farebox.metering.seals.sealing import seal_hours
from farebox.worker import Sweep, Worker


def make_worker(database: Database, settings: Settings) -> Worker:
    """A worker that does all topics and all sweeps there are; those of payments where they are on."""
    account = Account.of(settings)
    sweeps: list[Sweep] = [partial(_in_one_transaction, auth.sweep)]
    # Development lets people in without a confirmed address: there, nobody is removed for lacking one.
    if settings.production:
        sweeps.append(partial(_in_one_transaction, remove_unverified))
    sweeps += [
        expire_grants,
        charge_plans,
        settle_tiers,
        partial(keep_invoices, settings=settings),
        forget_old_exports,
    ]
    # Last: it may have to wait for tenants' locks.
    sweeps.append(partial(hold_ceilings, settings=settings))
    handlers = auth.HANDLERS | welcome.HANDLERS | exports.HANDLERS
    long_sweeps: list[Sweep] = [seal_hours, reconcile_nightly, partial(export_days, settings=settings)]
    if account is None:
        return Worker(database, settings, handlers, sweeps, long_sweeps=long_sweeps)
    return Worker(
        database,
        settings,
        handlers | stripe.handlers(account),
        sweeps,
        long_sweeps=[*long_sweeps, *stripe.sweeps(account)],
        watches=stripe.watches(),
        patience=stripe.PATIENCE,
    )


async def _in_one_transaction(sweep: Callable[[AsyncSession], Awaitable[object]], database: Database) -> None:
    async with database.meter_transaction() as session:
        await sweep(session)
