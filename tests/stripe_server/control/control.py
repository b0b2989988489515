"""Orders that a test or a person gives the stand-in."""

from collections.abc import Awaitable
from typing import Any

from tests.stripe_server.control.banks import BankOrders
from tests.stripe_server.control.deliveries import DeliveryOrders
from tests.stripe_server.control.faults import FaultOrders
from tests.stripe_server.control.loop import Ordered
from tests.stripe_server.control.record import RecordOrders
from tests.stripe_server.wire.errors import Json


class Control(FaultOrders, BankOrders, DeliveryOrders, RecordOrders):
    """All orders. Over HTTP, `POST /_control/<order>` takes its arguments in JSON."""

    async def by_name(self, name: str, arguments: Json) -> Any:
        """Raises LookupError for what is no order."""
        if name not in ORDERS:
            raise LookupError(f"there is no order {name}")
        result = getattr(self, name)(**arguments)
        return await result if isinstance(result, Awaitable) else result


# Those that block their caller would block the server.
ORDERS = frozenset(
    name
    for name in dir(Control)
    if not name.startswith(("_", "wait_until_")) and not hasattr(Ordered, name) and name != "by_name"
)
