"""All that the stand-in serves."""

from tests.stripe_server.billing import catalogue, clocks, credit_grants, meters, portal
from tests.stripe_server.checkout import pages as checkout_pages
from tests.stripe_server.checkout import paying, sessions
from tests.stripe_server.invoicing import advancing, invoices, items, life
from tests.stripe_server.invoicing import pages as invoice_pages
from tests.stripe_server.invoicing import payments as invoice_payments
from tests.stripe_server.payments import (
    charges,
    customers,
    payment_intents,
    payment_methods,
    setup_intents,
)
from tests.stripe_server.reversals import credit_notes, disputes, refunds
from tests.stripe_server.subscriptions import life as subscription_life
from tests.stripe_server.subscriptions import subscriptions
from tests.stripe_server.webhooks import destinations, events
from tests.stripe_server.wire.pages import Page
from tests.stripe_server.wire.routing import Family

FAMILIES: list[Family] = [
    customers.family,
    payment_methods.family,
    payment_intents.family,
    setup_intents.family,
    charges.family,
    refunds.family,
    disputes.family,
    catalogue.family,
    items.family,
    invoices.family,
    life.family,
    invoice_payments.family,
    advancing.family,
    credit_notes.family,
    subscriptions.family,
    subscription_life.family,
    clocks.family,
    portal.family,
    meters.family,
    credit_grants.family,
    sessions.family,
    paying.family,
    destinations.family,
    events.family,
]

PAGES: list[Page] = [*checkout_pages.PAGES, *invoice_pages.PAGES, *portal.PAGES]
