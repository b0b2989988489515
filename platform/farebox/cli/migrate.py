"""`farebox migrate`."""

import rich_click as click

from farebox.cli.data_directory import any_postgres
from farebox.cli.migrations import migrate_database
from farebox.cli.operation import answer_json, json_option
from farebox.core.logs import configure_logs
from farebox.core.settings import load_settings


@click.command()
@json_option
def migrate(as_json: bool) -> None:
    """Bring the database to this version's schema; safe to run twice, and on a live system.

    Runs as the tables' owner: FAREBOX_DATABASE_ADMIN_URL, or else FAREBOX_DATABASE_URL.
    """
    settings = load_settings()
    configure_logs("WARNING")
    with any_postgres(settings) as url:
        done = migrate_database(settings.database_admin_url or url)
    if as_json:
        answer_json(done)
    else:
        click.echo(
            f"Schema {done.before or 'none'} → {done.after}; partitions added: {len(done.partitions)}."
        )
