"""Where passwords wait to be hashed: who has many networks takes no more room than who has one."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from farebox.core.errors import Unavailable

# Who asks, as ever narrower groups: of IPv6 the /32, the /48 and the /64.
Path = tuple[Hashable, Hashable, Hashable]

# Of so many groups it is known when they were served last.
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class _Guest:
    """Somebody who waits for a turn."""

    path: Path
    turn: asyncio.Future[None]


class WaitingRoom:
    """Turns for work that takes a core: so many at a time, and so many places for those who wait.

    Both are shared among groups first, then among the groups within them (hierarchical round robin). The next
    turn is of the group that had none for longest. A newcomer to a full room takes the place of the last
    comer of the group that has most, unless it would have as many itself.
    """

    def __init__(
        self,
        turns: int,
        places: int,
        *,
        rest: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """After a turn, `rest` times as many seconds pass before the next one, by `clock`: what takes a core
        is to leave most of it to others."""
        self._idle = turns
        self._places = places
        self._rest = rest
        self._clock = clock
        self._guests: list[_Guest] = []
        # When a group had its last turn, in turns.
        self._served: dict[Hashable, int] = {}
        self._turns = 0

    @asynccontextmanager
    async def turn(self, path: Path) -> AsyncIterator[None]:
        """Wait for one's turn, and have it. Raises Unavailable where there is no place, or none any more."""
        await self._wait(path)
        begun = self._clock()
        try:
            yield
        finally:
            pause = self._rest * (self._clock() - begun)
            asyncio.get_running_loop().call_later(pause, self._end)

    def has_place(self, path: Path) -> bool:
        """Whether who comes with this path now may wait, if need be."""
        return bool(self._idle) or len(self._present) < self._places or bool(self._of_the_largest(path))

    async def _wait(self, path: Path) -> None:
        if not self._idle and len(self._present) >= self._places:
            self._make_room(path)
        guest = _Guest(path, asyncio.get_running_loop().create_future())
        self._guests.append(guest)
        self._begin()
        try:
            await guest.turn
        except asyncio.CancelledError:
            # Cancelled just after the turn had come.
            if not guest.turn.cancelled() and guest.turn.exception() is None:
                self._end()
            raise

    @property
    def _present(self) -> list[_Guest]:
        """Who waits, in the order of coming; not who has given up."""
        return [guest for guest in self._guests if not guest.turn.done()]

    def _end(self) -> None:
        self._idle += 1
        self._begin()

    def _begin(self) -> None:
        while self._idle and (present := self._present):
            guest = self._next_of(present)
            self._note_turn(guest.path)
            self._idle -= 1
            guest.turn.set_result(None)
        self._guests = self._present

    def _next_of(self, crowd: list[_Guest]) -> _Guest:
        for level in range(len(crowd[0].path)):
            longest = min((guest.path[level] for guest in crowd), key=self._last_turn_of)
            crowd = [guest for guest in crowd if guest.path[level] == longest]
        return crowd[0]

    def _last_turn_of(self, group: Hashable) -> int:
        return self._served.get(group, 0)

    def _note_turn(self, path: Path) -> None:
        if len(self._served) >= _REMEMBERED:
            self._served.clear()
        self._turns += 1
        self._served.update(dict.fromkeys(path, self._turns))

    def _make_room(self, path: Path) -> None:
        """Send somebody away in favour of who comes with this path, or raise Unavailable."""
        leaving = self._of_the_largest(path)
        if leaving is None:
            raise full()
        leaving.turn.set_exception(full())

    def _of_the_largest(self, path: Path) -> _Guest | None:
        crowd = self._present
        for level, own in enumerate(path):
            sizes = _sizes(crowd, level)
            largest = max(sizes, key=sizes.__getitem__, default=own)
            if sizes[largest] > sizes[own] + 1:
                return _last_of(crowd, level, largest)
            crowd = [guest for guest in crowd if guest.path[level] == own]
        return None


def _last_of(crowd: list[_Guest], level: int, group: Hashable) -> _Guest:
    """The last comer of a group's largest part, its part's largest part, and so on."""
    while True:
        crowd = [guest for guest in crowd if guest.path[level] == group]
        level += 1
        if level == len(crowd[0].path):
            return crowd[-1]
        sizes = _sizes(crowd, level)
        group = max(sizes, key=sizes.__getitem__)


def _sizes(crowd: list[_Guest], level: int) -> Counter[Hashable]:
    """How many are of each group of a level. Of equal ones the last comer's is first."""
    return Counter(guest.path[level] for guest in reversed(crowd))


def full() -> Unavailable:
    """What is said to those who find no place."""
    return Unavailable("Too many people are signing in; please try again.", retry_after_seconds=1)
