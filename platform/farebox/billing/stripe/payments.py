"""How a payment stands at Stripe, read anew each time: nothing that a webhook says is believed."""

from dataclasses import dataclass
from typing import Any

from farebox.billing.models_stripe import TopUp
from farebox.billing.stripe.account import Account, Json

# All other states of an intent, vouchers and transfers among them, still lead to money.
_FAILED = ("requires_payment_method", "canceled")
_INTENT = ["latest_charge.balance_transaction"]


@dataclass(frozen=True, kw_only=True)
class Payment:
    """`state` is a top-up's. Amounts are in minor units of `currency`; `fee` is None until it is known, or
    where Stripe counts it in another currency. `before_tax` is what the top-up itself comes to.
    `declined`: an invoice is open, and its payment has failed."""

    state: str
    currency: str
    before_tax: int
    tax: int
    fee: int | None = None
    payment_intent: str | None = None
    payment_method: str | None = None
    failure: str | None = None
    url: str | None = None
    declined: bool = False


async def read_payment(account: Account, top_up: TopUp) -> Payment | None:
    """None where nothing was made at Stripe yet. Raises as `Account.ask`."""
    match top_up.kind, top_up.session_id, top_up.invoice_id:
        case "checkout", str(session_id), _:
            return await _of_session(account, session_id)
        case "automatic", _, str(invoice_id):
            return await _of_invoice(account, invoice_id)
        case _:
            return None


async def _of_session(account: Account, session_id: str) -> Payment:
    session = await account.ask(lambda client: client.v1.checkout.sessions.retrieve(session_id))
    intent = await read_intent(account, session.get("payment_intent"))
    tax = (session.get("total_details") or {}).get("amount_tax") or 0
    return Payment(
        state=_state_of_session(session, intent),
        currency=str(session["currency"]).upper(),
        before_tax=session["amount_subtotal"],
        tax=tax,
        url=session.get("url"),
        **_told_by(intent, str(session["currency"])),
    )


def _state_of_session(session: Json, intent: Json) -> str:
    if session["payment_status"] == "paid":
        return "paid"
    if session["status"] == "expired":
        return "expired"
    if session["status"] != "complete":
        return "open"
    return "failed" if intent.get("status") in _FAILED else "processing"


async def _of_invoice(account: Account, invoice_id: str) -> Payment:
    params: Any = {"expand": ["payments"]}
    invoice = await account.ask(lambda client: client.v1.invoices.retrieve(invoice_id, params))
    intent = await read_intent(account, intent_of(invoice))
    taxes = invoice.get("total_taxes") or []
    return Payment(
        state=_state_of_invoice(invoice, intent),
        currency=str(invoice["currency"]).upper(),
        before_tax=invoice["subtotal"],
        tax=sum(each["amount"] for each in taxes),
        url=invoice.get("hosted_invoice_url"),
        declined=invoice["status"] == "open" and _fell_back(intent),
        **_told_by(intent, str(invoice["currency"])),
    )


def _state_of_invoice(invoice: Json, intent: Json) -> str:
    match invoice["status"], intent.get("status"):
        case "paid", _:
            return "paid"
        case "void" | "uncollectible", _:
            return "failed"
        case "open", "requires_action":
            return "requires_action"
        case "open", "processing":
            return "processing"
        case _:
            return "open"


def _fell_back(intent: Json) -> bool:
    """To where it wants a payment method again: a bank debit does so days later."""
    return intent.get("status") == "requires_payment_method" and intent.get("last_payment_error") is not None


def intent_of(invoice: Json) -> str | None:
    """The intent that pays an invoice, of one that was read with its `payments`."""
    rows = (invoice.get("payments") or {}).get("data") or []
    best = sorted(rows, key=lambda row: (row["status"] == "paid", bool(row["is_default"])))
    return best[-1]["payment"].get("payment_intent") if best else None


async def read_intent(account: Account, payment_intent: str | None) -> Json:
    """With its charge and what the charge left on the account's balance; empty where there is none."""
    if payment_intent is None:
        return {}
    params: Any = {"expand": _INTENT}
    return await account.ask(lambda client: client.v1.payment_intents.retrieve(payment_intent, params))


def _told_by(intent: Json, currency: str) -> Json:
    charge = intent.get("latest_charge") or {}
    movement = charge.get("balance_transaction") or {}
    known = movement.get("currency") == currency
    return {
        "payment_intent": intent.get("id"),
        "payment_method": intent.get("payment_method"),
        "failure": (intent.get("last_payment_error") or {}).get("message"),
        "fee": movement["fee"] if known else None,
    }
