"""The kinds of objects: the class that clients read them with, their ids' prefix, where they are fetched."""

from dataclasses import dataclass

import stripe
from stripe import StripeObject


@dataclass(frozen=True)
class Kind:
    klass: type[StripeObject]
    prefix: str
    noun: str
    url: str

    def url_of(self, identifier: str) -> str:
        return f"{self.url}/{identifier}"


KINDS = {
    "balance_transaction": Kind(
        stripe.BalanceTransaction, "txn", "balance transaction", "/v1/balance_transactions"
    ),
    "billing.credit_grant": Kind(
        stripe.billing.CreditGrant, "credgr", "credit grant", "/v1/billing/credit_grants"
    ),
    "billing.meter": Kind(stripe.billing.Meter, "mtr", "meter", "/v1/billing/meters"),
    "billing_portal.configuration": Kind(
        stripe.billing_portal.Configuration, "bpc", "configuration", "/v1/billing_portal/configurations"
    ),
    "billing_portal.session": Kind(
        stripe.billing_portal.Session, "bps", "session", "/v1/billing_portal/sessions"
    ),
    "charge": Kind(stripe.Charge, "ch", "charge", "/v1/charges"),
    "checkout.session": Kind(stripe.checkout.Session, "cs_test", "checkout.session", "/v1/checkout/sessions"),
    "credit_note": Kind(stripe.CreditNote, "cn", "credit note", "/v1/credit_notes"),
    "customer": Kind(stripe.Customer, "cus", "customer", "/v1/customers"),
    "customer_balance_transaction": Kind(
        stripe.CustomerBalanceTransaction, "cbtxn", "customer balance transaction", "/v1/customers"
    ),
    "dispute": Kind(stripe.Dispute, "du", "dispute", "/v1/disputes"),
    "event": Kind(stripe.Event, "evt", "event", "/v1/events"),
    "invoice": Kind(stripe.Invoice, "in", "invoice", "/v1/invoices"),
    "invoice_payment": Kind(stripe.InvoicePayment, "inpay", "invoice payment", "/v1/invoice_payments"),
    "invoiceitem": Kind(stripe.InvoiceItem, "ii", "invoice item", "/v1/invoiceitems"),
    "payment_intent": Kind(stripe.PaymentIntent, "pi", "payment_intent", "/v1/payment_intents"),
    "payment_method": Kind(stripe.PaymentMethod, "pm", "PaymentMethod", "/v1/payment_methods"),
    "price": Kind(stripe.Price, "price", "price", "/v1/prices"),
    "product": Kind(stripe.Product, "prod", "product", "/v1/products"),
    "refund": Kind(stripe.Refund, "re", "refund", "/v1/refunds"),
    "setup_intent": Kind(stripe.SetupIntent, "seti", "setup_intent", "/v1/setup_intents"),
    "subscription": Kind(stripe.Subscription, "sub", "subscription", "/v1/subscriptions"),
    "subscription_item": Kind(stripe.SubscriptionItem, "si", "subscription item", "/v1/subscription_items"),
    "tax_id": Kind(stripe.TaxId, "txi", "tax id", "/v1/tax_ids"),
    "test_helpers.test_clock": Kind(
        stripe.test_helpers.TestClock, "clock", "test clock", "/v1/test_helpers/test_clocks"
    ),
    "v2.core.event_destination": Kind(
        stripe.v2.core.EventDestination, "ed_test", "event destination", "/v2/core/event_destinations"
    ),
    "webhook_endpoint": Kind(stripe.WebhookEndpoint, "we", "webhook endpoint", "/v1/webhook_endpoints"),
}
