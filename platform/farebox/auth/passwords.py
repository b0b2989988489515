"""Password hashes: argon2id, in a pool that cannot be made to eat the machine."""

import os
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from typing import TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from farebox.core.errors import Unavailable
from farebox.core.fair_threads import FairThreads

# OWASP's Password Storage Cheat Sheet: 19 MiB, two passes, one lane; about 30 ms a hash.
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1

# A hash takes a whole core while it runs: three of four are left to models and requests.
THREADS = max(1, (os.cpu_count() or 1) // 4)

_T = TypeVar("_T")


class PasswordHasher:
    """Hashes and verifies in `threads` threads of its own, for each asker in turn.

    At most `queue` calls wait, of one asker a quarter of all, and of one site half. Who asks is told by the
    caller: a network, or the owner of a link; and of what site, which may have many networks. Past that,
    calls raise Unavailable at once: a flood of sign-ins costs the attacker a 503, not the other users their
    answers, nor inference a thread. `performed` counts the hashes computed.
    """

    def __init__(self, threads: int = THREADS, queue: int = 32) -> None:
        self._argon2 = argon2.PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._threads = FairThreads("password", threads)
        self._places = threads + queue
        self._places_of_one = max(1, self._places // 4)
        self._places_of_site = max(1, self._places // 2)
        self._asking: Counter[Hashable] = Counter()
        self._asking_sites: Counter[Hashable] = Counter()
        # What an unknown account is checked against, so that it takes as long as a known one.
        self._nobody = self._argon2.hash(secrets.token_urlsafe())
        self._counting = threading.Lock()
        self.performed = 0

    async def hash(self, password: str, *, asker: Hashable, site: Hashable = None) -> str:
        """The hash to store, in PHC format with a salt of its own. Raises Unavailable."""
        return await self._run(asker, site or asker, lambda: self._argon2.hash(password))

    async def verify(
        self, password_hash: str | None, password: str, *, asker: Hashable, site: Hashable = None
    ) -> bool:
        """Whether the password is the one hashed; for None, the same work and False.

        Raises Unavailable.
        """
        return await self._run(asker, site or asker, lambda: self._matches(password_hash, password))

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._threads.close()

    async def _run(self, asker: Hashable, site: Hashable, work: Callable[[], _T]) -> _T:
        if not self._has_room(asker, site):
            raise Unavailable("Too many people are signing in; please try again.", retry_after_seconds=1)
        self._asking[asker] += 1
        self._asking_sites[site] += 1
        try:
            return await self._threads.run(asker, lambda: self._count(work))
        finally:
            _leave(self._asking, asker)
            _leave(self._asking_sites, site)

    def _has_room(self, asker: Hashable, site: Hashable) -> bool:
        return (
            self._asking.total() < self._places
            and self._asking[asker] < self._places_of_one
            and self._asking_sites[site] < self._places_of_site
        )

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


def _leave(asking: Counter[Hashable], one: Hashable) -> None:
    asking[one] -= 1
    if not asking[one]:
        del asking[one]
