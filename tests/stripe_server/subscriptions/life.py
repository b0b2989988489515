"""The life of a subscription: it starts, renews, falls behind, recovers and ends."""

import copy
from typing import Any

from tests.stripe_server.invoicing.advancing import RETRY_DAYS, advance
from tests.stripe_server.invoicing.drafts import pending_items
from tests.stripe_server.invoicing.invoices import subscription_of
from tests.stripe_server.invoicing.life import collect, default_method, finalize, void
from tests.stripe_server.subscriptions.bills import draft_bill
from tests.stripe_server.subscriptions.items import show_items
from tests.stripe_server.subscriptions.periods import end_of_period
from tests.stripe_server.wire.errors import Json, StripeError
from tests.stripe_server.wire.routing import Family
from tests.stripe_server.world.world import World

family = Family()

_DAY = 24 * 3600
# How long a first payment may be outstanding.
_INCOMPLETE_SECONDS = 23 * 3600
_RENEWING = ("active", "past_due", "trialing", "unpaid")


def begin(world: World, subscription: Json, behaviour: str) -> StripeError | None:
    """The first invoice, paid as the behaviour says; the error of a request that insists on it, if any."""
    trial = subscription["status"] == "trialing"
    invoice = draft_bill(world, subscription, "subscription_create", free=trial)
    if subscription["collection_method"] == "send_invoice":
        return None
    finalize(world, invoice)
    if invoice["status"] == "paid" or behaviour == "default_incomplete":
        return None
    method = default_method(world, invoice)
    return collect(world, invoice, method) if method else None


@family.listens("invoice.paid")
def note_payment(world: World, invoice: Json) -> None:
    subscription = _of(world, invoice)
    if subscription is not None and subscription["status"] in ("incomplete", "past_due", "unpaid"):
        world.change(subscription, "customer.subscription.updated", status="active")


@family.listens("invoice.payment_failed")
def note_failure(world: World, invoice: Json) -> None:
    subscription = _of(world, invoice)
    if subscription is not None and subscription["status"] == "active":
        world.change(subscription, "customer.subscription.updated", status="past_due")


@family.listens("customer.deleted")
def end_with_customer(world: World, customer: Json) -> None:
    for subscription in world.books.oldest_first("subscription", customer=customer["id"]):
        if subscription["status"] not in ("canceled", "incomplete_expired"):
            end(world, subscription, world.now(customer["id"]))


def _of(world: World, invoice: Json) -> Json | None:
    identifier = subscription_of(invoice)
    return world.books.find(identifier) if identifier else None


def _all(world: World, *statuses: str) -> list[Json]:
    every = world.books.oldest_first("subscription")
    return [subscription for subscription in every if subscription["status"] in statuses]


@family.due
def renew_what_is_due(world: World) -> None:
    for subscription in _all(world, *_RENEWING):
        now = world.now(subscription["customer"])
        at = subscription["cancel_at"]
        if at is not None and at <= now:
            end(world, subscription, at)
        elif min(item["current_period_end"] for item in subscription["items"]["data"]) <= now:
            renew(world, subscription)


def renew(world: World, subscription: Json) -> None:
    """The next period, and its invoice, which advances an hour later. A trial's end is a renewal too."""
    before: Json = {"items": copy.deepcopy(subscription["items"])}
    if subscription["status"] == "trialing" and not _outlasts_trial(world, subscription, before):
        return
    turn_over(world, subscription)
    world.emit("customer.subscription.updated", subscription, before)
    invoice = draft_bill(world, subscription, "subscription_cycle")
    world.books.facts[invoice["id"]]["cycle"] = True


def turn_over(world: World, subscription: Json) -> None:
    anchor = subscription["billing_cycle_anchor"]
    for item in subscription["items"]["data"]:
        start = item["current_period_end"]
        world.change(
            item,
            current_period_start=start,
            current_period_end=end_of_period(anchor, start, item["price"]),
        )


def _outlasts_trial(world: World, subscription: Json, before: Json) -> bool:
    """Whether it goes on after its trial: without a method to pay with, as its settings say."""
    before["status"] = "trialing"
    customer = world.books.get("customer", subscription["customer"])
    settings = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    has_method = (
        subscription["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    )
    if has_method or settings == "create_invoice":
        world.change(subscription, status="active")
        return True
    if settings == "cancel":
        end(world, subscription, subscription["trial_end"])
    else:
        world.change(subscription, status="paused")
        world.emit("customer.subscription.paused", subscription)
    return False


@family.due
def tell_of_ending_trials(world: World) -> None:
    for subscription in _all(world, "trialing"):
        facts = world.books.facts[subscription["id"]]
        near = subscription["trial_end"] - 3 * _DAY <= world.now(subscription["customer"])
        if near and not facts.get("told_of_trial"):
            facts["told_of_trial"] = True
            world.emit("customer.subscription.trial_will_end", subscription)


@family.due
def expire_incomplete(world: World) -> None:
    for subscription in _all(world, "incomplete"):
        if subscription["created"] + _INCOMPLETE_SECONDS <= world.now(subscription["customer"]):
            invoice = world.books.get("invoice", subscription["latest_invoice"])
            world.change(subscription, "customer.subscription.updated", status="incomplete_expired")
            void(world, invoice)


@family.due
def give_up_unpaid(world: World) -> None:
    """When Stripe has tried often enough, the subscription ends."""
    for subscription in _all(world, "past_due"):
        invoice = world.books.get("invoice", subscription["latest_invoice"])
        exhausted = invoice["attempt_count"] > len(RETRY_DAYS) and invoice["next_payment_attempt"] is None
        if invoice["status"] == "open" and exhausted:
            end(world, subscription, world.now(subscription["customer"]), reason="payment_failed")


def end(world: World, subscription: Json, at: int, **details: Any) -> None:
    told = {"reason": "cancellation_requested", **details}
    world.change(
        subscription,
        cancellation_details=told,
        canceled_at=subscription["canceled_at"] or at,
        ended_at=at,
        status="canceled",
    )
    world.emit("customer.subscription.deleted", subscription)


def bill_now(world: World, subscription: Json, reason: str = "subscription_update") -> None:
    """An invoice for what is pending, collected at once; none if nothing is."""
    if pending_items(world, subscription["customer"], subscription["currency"]):
        advance(world, draft_bill(world, subscription, reason, lines=False))


def restart(world: World, subscription: Json) -> None:
    """A new cycle from now on, with an invoice of its own."""
    now = world.now(subscription["customer"])
    world.change(subscription, billing_cycle_anchor=now)
    for item in subscription["items"]["data"]:
        period_end = end_of_period(now, now, item["price"])
        world.change(item, current_period_start=now, current_period_end=period_end)
    show_items(world, subscription)
    advance(world, draft_bill(world, subscription, "subscription_update"))
