"""Orders from other threads, carried out on the server's loop."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from tests.stripe_server.api import Api
from tests.stripe_server.webhooks.outbox import Outbox

P = ParamSpec("P")
T = TypeVar("T")


class Ordered:
    """Whose methods may be called from any thread, and from another loop."""

    def __init__(self, api: Api, outbox: Outbox) -> None:
        self.api = api
        self.world = api.world
        self.outbox = outbox
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def on_own_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("the stand-in has not been started")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


def on_loop(order: Callable[P, T]) -> Callable[P, T]:
    """Carried out on the server's loop, wherever it is called."""

    @wraps(order)
    def ordered(*args: P.args, **kwargs: P.kwargs) -> T:
        async def carry_out() -> T:
            return order(*args, **kwargs)

        control = cast(Ordered, args[0])
        return order(*args, **kwargs) if control.on_own_loop() else control.submit(carry_out()).result()

    return ordered


def awaited(order: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Awaitable[T]]:
    """Carried out on the server's loop, and awaited on the caller's."""

    @wraps(order)
    def ordered(*args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        control, coroutine = cast(Ordered, args[0]), order(*args, **kwargs)
        return coroutine if control.on_own_loop() else asyncio.wrap_future(control.submit(coroutine))

    return ordered
