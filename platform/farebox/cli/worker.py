"""`farebox worker`."""

import asyncio
import signal

import rich_click as click

from farebox.cli.assembly import make_worker
from farebox.cli.data_directory import any_postgres
from farebox.cli.migrations import require_newest
from farebox.core.database import Database
from farebox.core.logs import configure_logs
from farebox.core.settings import Settings, load_settings


@click.command()
@click.option("--retry", is_flag=True, help="Begin with what was given up after twenty attempts.")
def worker(retry: bool) -> None:
    """Send the mails and do the other jobs that servers leave for later. `farebox up` includes one."""
    settings = load_settings()
    configure_logs(settings.log_level)
    with any_postgres(settings) as url:
        asyncio.run(_work(settings, url, retry=retry))


async def _work(settings: Settings, url: str, *, retry: bool) -> None:
    await require_newest(url)
    database = Database(url, pool_size=2)
    running = make_worker(database, settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.stop)
    if retry:
        await running.retry_given_up()
    click.echo("The worker is running. Ctrl-C stops it.")
    await running.run()
    await database.close()
