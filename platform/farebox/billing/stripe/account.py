"""Farebox's account at Stripe: the one place that speaks to it."""

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import stripe
import structlog
from stripe import RequestsClient, StripeClient, StripeObject

from farebox.billing.stripe.errors import Declined, NotSwitchedOn, ProcessorAway, ProcessorRefused
from farebox.core.settings import Settings

Json: TypeAlias = dict[str, Any]

TIMEOUT_SECONDS = 10.0
THREADS = 8
_BUSY = (409, 429)
# The package would turn a header of Stripe's into a warning in the middle of a call.
_NO_NOTICES = {"STRIPE_SUPPRESS_NOTICES": "true"}

log = structlog.get_logger(__name__)


class Account:
    """The sync client, in threads of its own: the loop's write settlements to disk.

    It tries nothing twice. The outbox does, with a key from our own rows, also after a crash. Objects come
    as plain dictionaries.
    """

    def __init__(self, key: str, *, base_url: str | None = None) -> None:
        os.environ.update(_NO_NOTICES)
        self.live = "_live_" in key
        self._transport = RequestsClient(timeout=TIMEOUT_SECONDS)
        addresses: Any = {"api": base_url, "meter_events": base_url} if base_url else None
        self._client = StripeClient(
            key, base_addresses=addresses, http_client=self._transport, max_network_retries=0
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="stripe")

    @classmethod
    def of(cls, settings: Settings) -> "Account | None":
        """None where no key is set: everything but payments works."""
        if settings.stripe_api_key is None:
            return None
        return cls(settings.stripe_api_key, base_url=settings.stripe_base_url)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._transport.close()  # type: ignore[no-untyped-call]

    async def ask(self, call: Callable[[StripeClient], StripeObject]) -> Json:
        """What `call` gets. Never to be awaited in a transaction.

        Raises Declined, ProcessorRefused and ProcessorAway.
        """
        answer: Json = await self._in_thread(lambda: _plain(call(self._client)))
        return answer

    async def list(self, call: Callable[[StripeClient], Any]) -> list[Json]:
        """All objects of a list, whatever number of pages it has. Raises as `ask`."""
        rows: list[Json] = await self._in_thread(lambda: [_plain(each) for each in _all(call(self._client))])
        return rows

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except stripe.StripeError as error:
            raise _translated(error) from error


def switched_on(account: Account | None) -> Account:
    """Raises NotSwitchedOn."""
    if account is None:
        raise NotSwitchedOn
    return account


def options(*parts: object) -> Any:
    """Under which key Stripe does a thing once: made from our rows, so that it survives a crash."""
    return {"idempotency_key": "-".join(["farebox", *map(str, parts)])}


def _plain(answer: StripeObject) -> Json:
    return dict(answer.to_dict())


def _all(pages: Any) -> Iterator[StripeObject]:
    return iter(pages.auto_paging_iter())


def _translated(error: stripe.StripeError) -> Exception:
    reason = f"{type(error).__name__} {error.http_status or ''}: {error.user_message or error}"[:300]
    if isinstance(error, stripe.CardError):
        return Declined(str(error.user_message or error), error.code)
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        log.error("stripe.key_refused", reason=reason)
        return ProcessorAway(reason)
    status = error.http_status
    if status is None or status >= 500 or status in _BUSY:
        return ProcessorAway(reason)
    return ProcessorRefused(str(error.user_message or error), error.code)
