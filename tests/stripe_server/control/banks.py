"""What banks, payers and their cards do."""

from tests.stripe_server.checkout import paying
from tests.stripe_server.checkout.paying import Payer
from tests.stripe_server.control.loop import Ordered, on_loop
from tests.stripe_server.payments import collecting, setup_intents
from tests.stripe_server.payments.banks import AUTHENTICATION_REQUIRED
from tests.stripe_server.payments.payment_methods import renew
from tests.stripe_server.reversals import disputes, refunds
from tests.stripe_server.world.world import Verdict


class BankOrders(Ordered):
    @on_loop
    def decline(
        self,
        code: str = "card_declined",
        decline_code: str | None = "generic_decline",
        *,
        off_session_only: bool = False,
        times: int = 1,
    ) -> None:
        """Let banks decline the next payments, whatever the method."""
        self.world.verdicts.append(Verdict(code, decline_code, off_session_only, times))

    @on_loop
    def require_authentication(self, *, off_session_only: bool = False, times: int = 1) -> None:
        """Let banks ask for their customer's consent to the next payments."""
        self.world.verdicts.append(Verdict(AUTHENTICATION_REQUIRED, None, off_session_only, times))

    @on_loop
    def settle(self, payment_intent: str, *, succeeded: bool = True) -> None:
        """Let the bank of a payment under way answer."""
        intent = self.world.books.get("payment_intent", payment_intent)
        collecting.settled_later(self.world, intent, succeeded=succeeded)

    @on_loop
    def authenticate(self, intent: str, *, agreed: bool = True) -> None:
        """Let the payer of an intent that waits for them go to their bank's page."""
        if intent.startswith("pi_"):
            found = self.world.books.get("payment_intent", intent)
            collecting.authenticated(self.world, found, agreed=agreed)
        else:
            found = self.world.books.get("setup_intent", intent)
            setup_intents.authenticated(self.world, found, agreed=agreed)

    @on_loop
    def pay_checkout(self, session: str, **payer: str) -> str | None:
        """Fill in a Checkout page, as `Payer` has it, and press its button; the error it shows, if any."""
        found = self.world.books.get("checkout.session", session)
        error = paying.submit(self.world, found, Payer(**payer))
        return None if error is None else str(error)

    @on_loop
    def renew_card(self, payment_method: str, *, last4: str = "4444", exp_year: int = 2101) -> None:
        """Let a bank send its customer a new card, which Stripe hears of by itself."""
        method = self.world.books.get("payment_method", payment_method)
        renew(self.world, method, last4=last4, exp_year=exp_year)

    @on_loop
    def dispute(self, charge_or_intent: str, *, amount: int | None = None, reason: str = "fraudulent") -> str:
        """Let a payer's bank take a payment back; returns the dispute's id."""
        found = self.world.books.find(charge_or_intent) or {}
        charge = self.world.books.get("charge", found.get("latest_charge") or charge_or_intent)
        due = charge["amount"] if amount is None else amount
        return str(disputes.open_dispute(self.world, charge, due, reason)["id"])

    @on_loop
    def decide_dispute(self, dispute: str, *, won: bool) -> None:
        """Let the bank close a dispute."""
        disputes.decide(self.world, self.world.books.get("dispute", dispute), won=won)

    @on_loop
    def finish_refund(self, refund: str, *, failure: str | None = None) -> None:
        """Let a refund reach its payer, or come back for a reason such as "lost_or_stolen_card"."""
        made = self.world.books.get("refund", refund)
        if failure is None:
            refunds.arrive(self.world, made)
        else:
            refunds.fail(self.world, made, failure)
