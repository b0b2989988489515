"""What a victim felt, and whether that is too much: the arithmetic of `make abuse`."""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

# What an attack may cost others at most.
P99_FACTOR = 2.0
P99_EXTRA_MS = 50.0
MEMORY_MIB = 300.0
STALL_MS = 50.0


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of time as the victim, the probe and the servers saw it; times are in milliseconds.

    `latencies` run from when a request should have been sent to its end, `outcomes` count them by status,
    or by what broke. `probes` and `reds` count looks at `/readyz`; `memory_mib` is the most that all
    servers took together, `stall_ms` the longest stall of an event loop.
    """

    latencies: list[float]
    outcomes: dict[str, int]
    probes: int
    reds: int
    slowest_probe_ms: float
    memory_mib: float
    stall_ms: float

    @property
    def p50_ms(self) -> float:
        return percentile(self.latencies, 0.50)

    @property
    def p99_ms(self) -> float:
        return percentile(self.latencies, 0.99)

    @property
    def server_errors(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome.startswith("5"))

    @property
    def refused(self) -> int:
        """Answers of 429."""
        return self.outcomes.get("429", 0)

    @property
    def broken(self) -> int:
        """Requests without a whole answer: no connection, a time-out, a stream that broke off."""
        return sum(count for outcome, count in self.outcomes.items() if not outcome.isdigit())


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One attacker on so many replicas: before, meanwhile, and what the attacker was told how often.

    `stopped` says why the attack was ended early, if it was. `restless`: its work went on long after it.
    """

    attacker: str
    replicas: int
    quiet: Phase
    attacked: Phase
    told: dict[str, int]
    stopped: str = ""
    restless: bool = False

    @property
    def grown_mib(self) -> float:
        return max(0.0, self.attacked.memory_mib - self.quiet.memory_mib)

    @property
    def faults(self) -> list[str]:
        """What is more than others may feel; empty where the row passes."""
        bound = P99_FACTOR * self.quiet.p99_ms + P99_EXTRA_MS
        checks = {
            "p99": self.attacked.p99_ms > bound,
            "5xx": self.attacked.server_errors > 0,
            "429": self.attacked.refused > 0,
            "broken": self.attacked.broken > 0,
            "readyz": self.attacked.reds > 0,
            "memory": self.grown_mib > MEMORY_MIB,
            "stall": self.attacked.stall_ms > STALL_MS,
            "stopped": bool(self.stopped),
        }
        return [name for name, wrong in checks.items() if wrong]


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank: the smallest value that `share` of all do not exceed. Raises ValueError for none."""
    if not values:
        raise ValueError("There is no percentile of nothing.")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def counted(outcomes: Sequence[str]) -> dict[str, int]:
    """How often each occurred, the most frequent first."""
    return dict(Counter(outcomes).most_common())


def stall_seconds(*, late: float, waited: float, forced: int, voluntary: int, computed: float) -> float:
    """How long a loop stood still for its own process's sake, of the `late` seconds that its timer was late.

    `waited` is how long its thread was ready and had no processor, `forced` and `voluntary` how often it lost
    one against its will and gave one up. A wait after losing one, and that for waking up, are the machine's
    doing. A thread that wants the interpreter while another holds it wakes up and gives up again and again:
    what it waits for a processor in between is no less a wait for the interpreter.

    All of it cannot be more than the process computed meanwhile, in all its threads (`computed`): the rest is
    their waiting for a processor.
    """
    machines = waited * min(1.0, (forced + 1) / max(1, forced + voluntary))
    return max(0.0, min(late - machines, computed))
