"""What banks say to a payment: Stripe's test cards, by number and by token, and what each of them does.

Source: Stripe's documentation, "Testing".
"""

from dataclasses import dataclass
from typing import Literal

from tests.stripe_server.wire.errors import Json
from tests.stripe_server.world.world import World

Authentication = Literal["never", "always", "unless_set_up"]


@dataclass(frozen=True)
class KnownCard:
    """`decline`: an error's code and decline code. `disputed`: the reason of a dispute after payment."""

    number: str
    brand: str = "visa"
    decline: tuple[str, str | None] | None = None
    authentication: Authentication = "never"
    attachable: bool = True
    disputed: str | None = None


GOOD = KnownCard("4242424242424242")

CARDS: dict[str, KnownCard] = {
    "pm_card_visa": GOOD,
    "pm_card_mastercard": KnownCard("5555555555554444", brand="mastercard"),
    "pm_card_amex": KnownCard("378282246310005", brand="amex"),
    "pm_card_visa_chargeDeclined": KnownCard(
        "4000000000000002", decline=("card_declined", "generic_decline"), attachable=False
    ),
    "pm_card_visa_chargeDeclinedInsufficientFunds": KnownCard(
        "4000000000009995", decline=("card_declined", "insufficient_funds"), attachable=False
    ),
    "pm_card_visa_chargeDeclinedLostCard": KnownCard(
        "4000000000009987", decline=("card_declined", "lost_card"), attachable=False
    ),
    "pm_card_chargeDeclinedExpiredCard": KnownCard(
        "4000000000000069", decline=("expired_card", None), attachable=False
    ),
    "pm_card_chargeDeclinedProcessingError": KnownCard(
        "4000000000000119", decline=("processing_error", None), attachable=False
    ),
    "pm_card_chargeCustomerFail": KnownCard("4000000000000341", decline=("card_declined", "generic_decline")),
    "pm_card_authenticationRequired": KnownCard("4000002760003184", authentication="always"),
    "pm_card_authenticationRequiredOnSetup": KnownCard("4000002500003155", authentication="unless_set_up"),
    "pm_card_createDispute": KnownCard("4000000000000259", disputed="fraudulent"),
}
_BY_NUMBER = {card.number: card for card in CARDS.values()}

# Banks that answer days later.
DELAYED_TYPES = frozenset({"us_bank_account", "sepa_debit", "bacs_debit", "au_becs_debit"})

AUTHENTICATION_REQUIRED = "authentication_required"

_WORDS = {
    "card_declined": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    AUTHENTICATION_REQUIRED: "Your card was declined. This transaction requires authentication.",
}


@dataclass(frozen=True)
class Answer:
    """`status` is what the intent comes to; a decline has its codes."""

    status: Literal["succeeded", "processing", "requires_action", "declined"]
    code: str | None = None
    decline_code: str | None = None

    @property
    def message(self) -> str:
        return _WORDS.get(self.decline_code or "", _WORDS.get(self.code or "", _WORDS["card_declined"]))


def card_numbered(number: str) -> KnownCard | None:
    return _BY_NUMBER.get(number.replace(" ", ""))


def ask_bank(world: World, method: Json, *, off_session: bool) -> Answer:
    """What control has ordered goes first, then what the method is known for."""
    ordered = _ordered(world, off_session=off_session)
    if ordered is not None:
        return ordered
    facts = world.books.facts[method["id"]]
    card: KnownCard = facts.get("card", GOOD)
    if card.decline is not None:
        return Answer("declined", *card.decline)
    if card.authentication == "always" or (
        card.authentication == "unless_set_up" and not facts.get("set_up")
    ):
        return _unauthenticated(off_session=off_session)
    return Answer("processing" if method["type"] in DELAYED_TYPES else "succeeded")


def _ordered(world: World, *, off_session: bool) -> Answer | None:
    for verdict in world.verdicts:
        if off_session or not verdict.off_session_only:
            verdict.times -= 1
            if verdict.times == 0:
                world.verdicts.remove(verdict)
            if verdict.code == AUTHENTICATION_REQUIRED:
                return _unauthenticated(off_session=off_session)
            return Answer("declined", verdict.code, verdict.decline_code)
    return None


def _unauthenticated(*, off_session: bool) -> Answer:
    if off_session:
        return Answer("declined", AUTHENTICATION_REQUIRED, AUTHENTICATION_REQUIRED)
    return Answer("requires_action")
