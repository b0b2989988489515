"""`farebox doctor`: is everything in order, and if not, how to mend it."""

import asyncio

import rich_click as click

from farebox.cli.data_directory import NothingHere, any_postgres, postgres_directory
from farebox.cli.doctor.database_checks import examine
from farebox.cli.doctor.findings import Finding
from farebox.cli.doctor.machine_checks import check_device, check_disk
from farebox.cli.errors import CommandFailed
from farebox.cli.operation import answer_json, json_option
from farebox.core.errors import Unavailable
from farebox.core.logs import configure_logs
from farebox.core.postgres.embedded import PostgresError
from farebox.core.settings import Settings, load_settings

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failure": ("✗", "red")}


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check database, migrations, signing keys, models, GPU, disk and clock.

    The exit status is 1 if something must be mended.
    """
    settings = load_settings()
    configure_logs("ERROR")
    findings = [*_examine_database(settings), check_device(settings), check_disk(settings.data_dir)]
    if as_json:
        answer_json(findings)
    else:
        for finding in findings:
            _show(finding)
    context.exit(any(finding.state == "failure" for finding in findings))


def _examine_database(settings: Settings) -> list[Finding]:
    try:
        with any_postgres(settings) as url:
            return asyncio.run(examine(settings, url))
    except NothingHere as error:
        return [Finding("database", "failure", str(error), "Run `farebox up`, or set FAREBOX_DATABASE_URL.")]
    except (CommandFailed, Unavailable, PostgresError) as error:
        mend = (
            "Start Postgres, or set FAREBOX_DATABASE_URL to where it is."
            if settings.database_url
            else f"Look into {postgres_directory(settings) / 'log'}, or set FAREBOX_DATABASE_URL."
        )
        return [Finding("database", "failure", " ".join(str(error).split()), mend)]


def _show(finding: Finding) -> None:
    mark, colour = MARKS[finding.state]
    mend = f" → {finding.mend}" if finding.mend else ""
    click.echo(f"{click.style(mark, fg=colour)} {finding.check:<13} {finding.detail}{mend}")
