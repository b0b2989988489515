"""Waiting for what has no event of its own that would reach a test.

A limit here only keeps a broken test from hanging: a machine may be as busy as it likes.
"""

import asyncio
from collections.abc import Awaitable, Callable

WAIT_SECONDS = 300.0
LOOK_SECONDS = 0.002
LOOK_ELSEWHERE_SECONDS = 0.05


async def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread's state. Raises TimeoutError."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = WAIT_SECONDS) -> None:
    """Wait for what another process brings about, `seconds` long if that is promised. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_ELSEWHERE_SECONDS)
