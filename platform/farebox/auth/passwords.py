"""Password hashes: argon2id, in a pool that cannot be made to eat the machine."""

import asyncio
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from farebox.core.errors import Unavailable

# OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane; about 30 ms a hash.
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1

_T = TypeVar("_T")


class PasswordHasher:
    """Hashes and verifies in `threads` threads with at most `queue` calls waiting.

    Past that, calls raise Unavailable at once: a flood of sign-ins costs the attacker a 503, not the
    other users their answers. `performed` counts the hashes computed.
    """

    def __init__(self, threads: int = 2, queue: int = 32) -> None:
        self._argon2 = argon2.PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._places = threading.BoundedSemaphore(threads + queue)
        # What an unknown account is checked against, so that it takes as long as a known one.
        self._nobody = self._argon2.hash(secrets.token_urlsafe())
        self._counting = threading.Lock()
        self.performed = 0

    async def hash(self, password: str) -> str:
        """The hash to store, in PHC format with a salt of its own."""
        return await self._run(lambda: self._argon2.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is the one hashed; for None, the same work and False."""
        return await self._run(lambda: self._matches(password_hash, password))

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], _T]) -> _T:
        if not self._places.acquire(blocking=False):
            raise Unavailable("Too many people are signing in; please try again.", retry_after_seconds=1)
        future: Future[_T] = self._threads.submit(self._count, work)
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def _count(self, work: Callable[[], _T]) -> _T:
        result = work()
        with self._counting:
            self.performed += 1
        return result

    def _matches(self, password_hash: str | None, password: str) -> bool:
        try:
            return self._argon2.verify(password_hash or self._nobody, password) and password_hash is not None
        except VerifyMismatchError:
            return False
        except InvalidHashError:  # an account without a password, made by an operator
            return self._matches(None, password)
