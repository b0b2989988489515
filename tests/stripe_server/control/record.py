"""What came and what is there, and the account's settings and time."""

import copy
from decimal import Decimal

from tests.stripe_server.control.loop import Ordered, on_loop
from tests.stripe_server.wire.errors import Json


class RecordOrders(Ordered):
    @on_loop
    def requests(self, path: str | None = None) -> list[Json]:
        """Those that came, in their order, or those to one path; parameters are still strings."""
        return [copy.deepcopy(vars(seen)) for seen in self.api.seen if path in (None, seen.path)]

    @on_loop
    def thing(self, identifier: str) -> Json | None:
        """An object as it stands."""
        return copy.deepcopy(self.world.books.find(identifier))

    @on_loop
    def things(self, kind: str) -> list[Json]:
        """All objects of a kind, oldest first."""
        return copy.deepcopy(self.world.books.oldest_first(kind))

    @on_loop
    def set_tax_rate(self, rate: str) -> None:
        """A fraction, such as "0.19"."""
        self.world.settings.tax_rate = Decimal(rate)

    @on_loop
    def advance(self, seconds: int) -> None:
        """Let time pass for all that has no test clock, and happen what is due by then."""
        self.world.advance(seconds)
