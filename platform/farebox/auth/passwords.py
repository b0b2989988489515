"""Password hashes: argon2id, in a pool that cannot be made to eat the machine."""

import asyncio
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from farebox.auth.waiting_room import Path, WaitingRoom, full

# OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane; about 30 ms a hash.
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1

# A hash takes a whole core while it runs: three of four are left to models and requests. Where there are
# fewer than four, the thread rests for that.
_CORES = os.cpu_count() or 1
THREADS = max(1, _CORES // 4)
REST = max(0.0, 4 / _CORES - 1)

PATIENCE_SECONDS = 1.0

_T = TypeVar("_T")


class PasswordHasher:
    """Hashes and verifies in `threads` threads of its own, for all who ask in turn.

    At most `queue` calls wait, in a `WaitingRoom`: past that, calls raise Unavailable. So a flood of sign-ins
    costs the attacker a 503, not the other users their answers, nor inference a thread. Who asks is told by
    the caller as a path of ever narrower groups: networks, or the owner of a link. `performed` counts the
    hashes computed.
    """

    def __init__(
        self,
        threads: int = THREADS,
        queue: int = 32,
        *,
        rest: float = REST,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """After a hash, its thread rests `rest` times as long. `patience` is in seconds, see `find_place`."""
        self._argon2 = argon2.PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._room = WaitingRoom(threads, queue, rest=rest)
        self._patience = patience
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="password")
        # What an unknown account is checked against, so that it takes as long as a known one.
        self._nobody = self._argon2.hash(secrets.token_urlsafe())
        self._counting = threading.Lock()
        self.performed = 0

    async def find_place(self, asker: Path) -> None:
        """To be asked before anything is done for who wants a hash.

        Raises Unavailable where there is no place, after some patience. Told at once, who asks without a
        pause would ask a hundred times meanwhile.
        """
        if not self._room.has_place(asker):
            await asyncio.sleep(self._patience)
            if not self._room.has_place(asker):
                raise full()

    async def hash(self, password: str, *, asker: Path) -> str:
        """The hash to store, in PHC format with a salt of its own. Raises Unavailable."""
        return await self._run(asker, lambda: self._argon2.hash(password))

    async def verify(self, password_hash: str | None, password: str, *, asker: Path) -> bool:
        """Whether the password is the one hashed; for None, the same work and False.

        Raises Unavailable.
        """
        return await self._run(asker, lambda: self._matches(password_hash, password))

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, asker: Path, work: Callable[[], _T]) -> _T:
        loop = asyncio.get_running_loop()
        async with self._room.turn(asker):
            return await loop.run_in_executor(self._threads, self._count, work)

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
