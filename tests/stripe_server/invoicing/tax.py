"""Tax: one rate for all goods and places, on top of every amount."""

from tests.stripe_server.wire.errors import UnfaithfulAnswer


def refuse_inclusive(behaviour: str | None) -> None:
    """Raises UnfaithfulAnswer for an amount that tax is to be taken out of."""
    if behaviour == "inclusive":
        raise UnfaithfulAnswer("amounts with tax in them are not served")
