"""What the worker does for payments."""

from collections.abc import Awaitable, Callable
from functools import partial

from farebox.billing.stripe.account import Account
from farebox.billing.stripe.automatic.collection import collect
from farebox.billing.stripe.automatic.decisions import COLLECT, watch_balances
from farebox.billing.stripe.events.inbox import EVENT
from farebox.billing.stripe.events.processing import process
from farebox.billing.stripe.mails import MAIL, mail
from farebox.billing.stripe.reversals.refunds import REFUND, send_refund
from farebox.billing.stripe.sweeping import sweep_daily
from farebox.core.database import Database
from farebox.core.outbox import Handler

# Two weeks, nearly all of them an hour apart: Stripe may be away for days.
PATIENCE = dict.fromkeys((EVENT, COLLECT, REFUND), 24 * 14)

Sweep = Callable[[Database], Awaitable[object]]


def handlers(account: Account) -> dict[str, Handler]:
    return {
        EVENT: partial(process, account),
        COLLECT: partial(collect, account),
        REFUND: partial(send_refund, account),
        MAIL: mail,
    }


def sweeps(account: Account) -> list[Sweep]:
    return [partial(sweep_daily, account)]


def watches() -> list[Sweep]:
    return [watch_balances]
