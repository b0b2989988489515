"""A clock that stands still until it is told to go."""

from datetime import datetime, timedelta

from farebox.core.clock import utc_now


class Clock:
    """What a `Database` is given as its clock; it begins at the real time."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        """By days, hours or seconds, as `timedelta` names them."""
        self.now += timedelta(**by)
