"""Which admissions have reached the disk.

Postgres writes its log in order: once a durable commit returns, every transaction that had committed
when its statement was sent is on disk too. Counting flushes is therefore enough; no statement is
spent on asking.
"""


class Durability:
    """Admission batches are numbered; `reached` is the newest one known to survive a crash."""

    def __init__(self) -> None:
        self.newest = 0
        self.reached = 0

    def number_batch(self) -> int:
        """The number of a batch whose commit has just returned."""
        self.newest += 1
        return self.newest

    def advance(self, newest_when_sent: int) -> None:
        """Note that a durable commit has returned which was sent when that batch was the newest."""
        self.reached = max(self.reached, newest_when_sent)

    def covers(self, batch: int) -> bool:
        return batch <= self.reached
