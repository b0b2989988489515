"""The worker with what every domain gives it to do. Composition only."""

from functools import partial

from farebox.auth import tasks as auth
from farebox.auth.unverified import remove_unverified
from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.limits.ceilings import hold_ceilings
from farebox.worker import Sweep, Worker


def make_worker(database: Database, settings: Settings) -> Worker:
    """A worker that does all topics and all sweeps there are."""
    sweeps: list[Sweep] = [auth.sweep]
    # Development lets people in without a confirmed address: there, nobody is removed for lacking one.
    if settings.production:
        sweeps.append(remove_unverified)
    # Last: it may have to wait for tenants' locks.
    sweeps.append(partial(hold_ceilings, settings=settings))
    return Worker(database, settings, auth.HANDLERS, sweeps)
