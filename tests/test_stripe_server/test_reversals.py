"""Money that goes back: refunds, credit notes, disputes."""

from typing import Any, cast

import pytest
import stripe
from stripe import Charge, StripeClient

from tests.stripe_server.server import StripeServer
from tests.test_stripe_server.orders import payer, top_up, types_of
from tests.test_stripe_server.test_invoices import opened


def charge_of(client: StripeClient, intent: str) -> Charge:
    found = client.v1.payment_intents.retrieve(intent, {"expand": ["latest_charge"]})
    return cast(Charge, found.latest_charge)


@pytest.fixture
def intent(client: StripeClient, stripe_server: StripeServer) -> str:
    """A payment of 50 dollars through Checkout."""
    session = top_up(client)
    stripe_server.control.pay_checkout(session.id)
    return cast(str, client.v1.checkout.sessions.retrieve(session.id).payment_intent)


def test_a_payment_is_refunded_in_parts_and_no_further(client: StripeClient, intent: str) -> None:
    part = client.v1.refunds.create({"payment_intent": intent, "amount": 2000, "metadata": {"a": "b"}})
    assert (part.status, part.amount, part.payment_intent) == ("succeeded", 2000, intent)
    assert (charge_of(client, intent).amount_refunded, charge_of(client, intent).refunded) == (2000, False)
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.refunds.create({"payment_intent": intent, "amount": 3001})
    assert refusal.value.param == "amount"
    rest = client.v1.refunds.create({"charge": charge_of(client, intent).id})
    assert (rest.amount, charge_of(client, intent).refunded) == (3000, True)
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.refunds.create({"payment_intent": intent})
    assert refusal.value.code == "charge_already_refunded"
    movement = client.v1.balance_transactions.retrieve(cast(str, rest.balance_transaction))
    assert (movement.amount, movement.fee, movement.type) == (-3000, 0, "refund")
    assert [one.id for one in client.v1.refunds.list({"payment_intent": intent}).data] == [rest.id, part.id]
    assert types_of(client)[-4:] == ["charge.refunded", "refund.created"] * 2


def test_what_was_not_paid_is_not_refunded(client: StripeClient) -> None:
    unpaid = client.v1.payment_intents.create({"amount": 500, "currency": "usd"})
    for params in ({"payment_intent": unpaid.id}, {}, {"payment_intent": "pi_nobody"}):
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.refunds.create(cast(Any, params))


def test_a_refund_can_come_back(client: StripeClient, stripe_server: StripeServer, intent: str) -> None:
    refund = client.v1.refunds.create({"payment_intent": intent})
    stripe_server.control.finish_refund(refund.id, failure="lost_or_stolen_card")
    failed = client.v1.refunds.retrieve(refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", "lost_or_stolen_card")
    assert charge_of(client, intent).amount_refunded == 0
    assert types_of(client)[-2:] == ["refund.failed", "refund.updated"]


def test_a_refund_to_a_bank_account_takes_days(client: StripeClient, stripe_server: StripeServer) -> None:
    session = top_up(client)
    stripe_server.control.pay_checkout(session.id, method="us_bank_account")
    intent = cast(str, client.v1.checkout.sessions.retrieve(session.id).payment_intent)
    stripe_server.control.settle(intent)
    refund = client.v1.refunds.create({"payment_intent": intent})
    assert refund.status == "pending"
    stripe_server.control.finish_refund(refund.id)
    assert client.v1.refunds.retrieve(refund.id).status == "succeeded"


@pytest.mark.parametrize("won", [True, False])
def test_a_dispute_takes_the_money_and_may_give_it_back(
    client: StripeClient, stripe_server: StripeServer, intent: str, won: bool
) -> None:
    made = stripe_server.control.dispute(intent, reason="product_not_received")
    dispute = client.v1.disputes.retrieve(made)
    assert (dispute.status, dispute.amount, dispute.payment_intent) == ("needs_response", 5000, intent)
    assert charge_of(client, intent).disputed
    assert [line.net for line in dispute.balance_transactions] == [-6500]
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.refunds.create({"payment_intent": intent})
    assert refusal.value.code == "charge_disputed"
    answered = client.v1.disputes.update(made, {"evidence": {"uncategorized_text": "It was used."}})
    assert (answered.status, answered.evidence_details.submission_count) == ("under_review", 1)
    stripe_server.control.decide_dispute(made, won=won)
    assert client.v1.disputes.retrieve(made).status == ("won" if won else "lost")
    told = ["created", "funds_withdrawn", "updated", "closed", *(["funds_reinstated"] if won else [])]
    assert types_of(client)[-len(told) :] == [f"charge.dispute.{what}" for what in told]
    net = sum(line.net for line in client.v1.disputes.retrieve(made).balance_transactions)
    assert net == (0 if won else -6500)


def test_some_cards_are_disputed_as_soon_as_they_pay(client: StripeClient) -> None:
    client.v1.payment_intents.create(
        {
            "amount": 500,
            "currency": "usd",
            "payment_method": "pm_card_createDispute",
            "confirm": True,
            "return_url": "https://shop.example/",
        }
    )
    (dispute,) = client.v1.disputes.list().data
    assert client.v1.disputes.close(dispute.id).status == "lost"


def test_a_credit_note_before_payment_lowers_what_is_due(client: StripeClient) -> None:
    invoice = opened(client, payer(client), 2000)
    note = client.v1.credit_notes.create({"invoice": invoice.id, "amount": 500, "reason": "duplicate"})
    assert (note.type, note.total, note.status) == ("pre_payment", 500, "issued")
    lowered = client.v1.invoices.retrieve(invoice.id)
    assert (lowered.amount_due, lowered.pre_payment_credit_notes_amount) == (1500, 500)
    assert client.v1.credit_notes.void_credit_note(note.id).status == "void"
    assert client.v1.invoices.retrieve(invoice.id).amount_remaining == 2000
    assert client.v1.invoices.pay(invoice.id).amount_paid == 2000


def test_a_credit_note_over_all_that_is_due_closes_the_invoice(client: StripeClient) -> None:
    invoice = opened(client, payer(client), 2000)
    client.v1.credit_notes.create({"invoice": invoice.id, "amount": 2000})
    closed = client.v1.invoices.retrieve(invoice.id)
    assert (closed.status, closed.amount_paid, closed.amount_remaining) == ("paid", 0, 0)


def test_a_credit_note_after_payment_says_where_the_money_goes(client: StripeClient) -> None:
    customer = payer(client)
    invoice = opened(client, customer, 2000)
    client.v1.invoices.pay(invoice.id)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.credit_notes.create({"invoice": invoice.id, "amount": 1000, "refund_amount": 400})
    note = client.v1.credit_notes.create(
        {
            "invoice": invoice.id,
            "amount": 1000,
            "refund_amount": 400,
            "credit_amount": 350,
            "out_of_band_amount": 250,
        }
    )
    (part,) = note.refunds
    refund = client.v1.refunds.retrieve(cast(str, part.refund))
    assert (note.type, part.amount_refunded, refund.amount) == ("post_payment", 400, 400)
    assert client.v1.customers.retrieve(customer.id).balance == -350
    (credit,) = client.v1.customers.balance_transactions.list(customer.id).data
    assert (credit.amount, credit.ending_balance, credit.credit_note) == (-350, -350, note.id)
    assert client.v1.invoices.retrieve(invoice.id).post_payment_credit_notes_amount == 1000
    assert opened(client, customer, 1000).amount_due == 650
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.credit_notes.create({"invoice": invoice.id, "amount": 1001, "credit_amount": 1001})


def test_a_credit_note_can_name_its_lines(client: StripeClient) -> None:
    invoice = opened(client, payer(client), 2000, 700)
    note = client.v1.credit_notes.create(
        {
            "invoice": invoice.id,
            "lines": [
                {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[1].id, "quantity": 1},
                {"type": "custom_line_item", "unit_amount": 50, "quantity": 2, "description": "Delay"},
            ],
        }
    )
    assert note.total == 800
    assert [line.amount for line in client.v1.credit_notes.line_items.list(note.id).data] == [700, 100]
