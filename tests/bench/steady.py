"""Steady decoding: the time in which every stream has begun and none has ended."""

from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time

import msgspec


class Steady(msgspec.Struct):
    """What was generated in that time, and the CPU seconds it took.

    `loop_cpu` are those of the process's first thread, which has the event loop, `other_cpu` those of
    all others, the engine's foremost. `reader_cpu` are of the process that reads the streams, if
    that is another. `events` were written for the `tokens`.
    """

    tokens: float
    seconds: float
    loop_cpu: float
    other_cpu: float
    reader_cpu: float
    events: int

    @property
    def rate(self) -> float:
        """Tokens per second, of all streams together."""
        return self.tokens / self.seconds


@dataclass(slots=True)
class Moment:
    """A moment, and what a process had used until then. Times are in seconds."""

    pid: int
    time: float = field(default_factory=perf_counter)
    reader_cpu: float = field(default_factory=process_time)
    loop_cpu: float = field(init=False)
    other_cpu: float = field(init=False)

    def __post_init__(self) -> None:
        self.loop_cpu, self.other_cpu = thread_seconds(self.pid)


def thread_seconds(pid: int) -> tuple[float, float]:
    """CPU seconds of a process's first thread, and of its others together (Linux)."""
    used = {
        int(path.parent.name): int(path.read_text().split()[0]) / 1e9
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    }
    first = used.pop(pid)
    return first, sum(used.values())


def between(begin: Moment, end: Moment, tokens: float, events: int) -> Steady:
    """The figures of the time from `begin` to `end`."""
    return Steady(
        tokens,
        end.time - begin.time,
        end.loop_cpu - begin.loop_cpu,
        end.other_cpu - begin.other_cpu,
        end.reader_cpu - begin.reader_cpu,
        events,
    )


class Window:
    """Finds the time: `begun` and `ended` are called once for each of the `streams`."""

    def __init__(self, streams: int, pid: int) -> None:
        self._unbegun = streams
        self._pid = pid
        self._begin: Moment | None = None
        self._end: Moment | None = None

    def begun(self) -> None:
        self._unbegun -= 1
        if not self._unbegun:
            self._begin = Moment(self._pid)

    def ended(self) -> None:
        self._end = self._end or Moment(self._pid)

    @property
    def bounds(self) -> tuple[Moment, Moment]:
        """Its begin and end. Raises ValueError if there is no such time."""
        if self._begin is None or self._end is None or self._end.time <= self._begin.time:
            raise ValueError("A stream ended before the last had begun: ask for longer answers.")
        return self._begin, self._end
