"""`farebox up` and `farebox serve`: what must be there before the process runs, and what it announces."""

import asyncio
import json
import time
from functools import partial

import psutil
import rich_click as click

from farebox.cli.bootstrap import FILE_NAME, Credentials, ensure_demo_organization
from farebox.cli.data_directory import any_postgres, own_postgres
from farebox.cli.migrations import migrate_database, require_newest
from farebox.cli.offering import model_to_try, offer_demo_model
from farebox.cli.process import listen, run_process
from farebox.core.database import Database
from farebox.core.logs import configure_logs
from farebox.core.settings import Settings, load_settings
from farebox.keys.tokens import Keyring

ANSWER_SECONDS = 30.0
READY_LOOK_SECONDS = 0.1
CURL = (
    "curl -N {base_url}/v1/chat/completions -H 'Authorization: Bearer {api_key}'"
    " -H 'Content-Type: application/json' -d '{body}'"
)
QUESTION = {"role": "user", "content": "Tell me a story about a cat."}


@click.command()
def up() -> None:
    """Run everything: Postgres, migrations, the demo model, the server and the worker.

    Without FAREBOX_DATABASE_URL, Postgres is embedded, with its data under FAREBOX_DATA.
    """
    settings = load_settings()
    configure_logs(settings.log_level)
    listeners, settings = listen(settings)
    with listeners, own_postgres(settings) as url:
        migrate_database(settings.database_admin_url or url)
        announce = partial(_announce, settings, asyncio.run(_prepare(settings, url)))
        run_process(settings, url, listeners, announce, with_worker=True)
    click.echo("Farebox has stopped.")


@click.command()
@click.option("--worker", "with_worker", is_flag=True, help="Do the worker's part in this process, too.")
def serve(with_worker: bool) -> None:
    """Run the server on a migrated database; any number of these share one."""
    settings = load_settings()
    configure_logs(settings.log_level)
    listeners, settings = listen(settings)
    with listeners, any_postgres(settings) as url:
        asyncio.run(_check(settings, url))
        run_process(settings, url, listeners, partial(_announce, settings, []), with_worker=with_worker)


async def _prepare(settings: Settings, url: str) -> list[str]:
    """Put into the database what the first request needs; returns lines for the operator."""
    database = Database(url, pool_size=2)
    try:
        if settings.demo_model:
            await offer_demo_model(database, settings)
        if settings.production:
            await Keyring.load(database, settings)
            return []
        credentials = await ensure_demo_organization(database, settings)
        return _describe(settings, credentials, await model_to_try(database))
    finally:
        await database.close()


async def _check(settings: Settings, url: str) -> None:
    """Fail here, in a sentence, rather than in the server's start-up, in a traceback."""
    await require_newest(url)
    database = Database(url, pool_size=1)
    try:
        await Keyring.load(database, settings)
    finally:
        await database.close()


def _describe(settings: Settings, credentials: Credentials, model: str | None) -> list[str]:
    lines = [
        f"  Sign in    {credentials.email}   password: {credentials.password}",
        f"  All of it  {settings.data_dir / FILE_NAME}",
    ]
    if model is not None:
        body = json.dumps({"model": model, "stream": True, "messages": [QUESTION]})
        curl = CURL.format(base_url=credentials.base_url, api_key=credentials.api_key, body=body)
        lines += ["", "Try it:", "", curl]
    return [*lines, "", "Ctrl-C stops it."]


async def _announce(settings: Settings, lines: list[str]) -> None:
    await _first_answer(settings)
    click.echo(f"\nFarebox is ready in {time.time() - psutil.Process().create_time():.1f} s.\n")
    click.echo(f"  API        {settings.public_url}/v1")
    click.echo(f"  Reference  {settings.public_url}/docs")
    click.echo(f"  Dashboard  {settings.public_url}/")
    if settings.metrics_address:
        click.echo(f"  Metrics    http://{settings.metrics_address}/metrics")
    for line in lines:
        click.echo(line)


async def _first_answer(settings: Settings) -> None:
    """Ask for `/readyz` over the network, as a client would, until a model is loaded."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  not bound
    while not await _is_ready(host, settings.port):  # noqa: ASYNC110  as a client, whom nobody tells
        await asyncio.sleep(READY_LOOK_SECONDS)


async def _is_ready(host: str, port: int) -> bool:
    async with asyncio.timeout(ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = await reader.readline()
        writer.close()
    return b" 200 " in status
