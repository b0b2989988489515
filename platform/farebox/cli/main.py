"""The command's tree. A command is imported when it is called: `farebox key list` need not wait for torch."""

from importlib import import_module
from typing import Any

import rich_click as click

from farebox.cli.errors import CommandFailed
from farebox.core.errors import FareboxError
from farebox.core.postgres.embedded import PostgresError
from farebox.core.settings import SettingsError

# Where each is, and what its help begins with: to list them, none need be imported.
COMMANDS = {
    "up": (
        "farebox.cli.up",
        "Run everything: Postgres, migrations, the demo model, the server and the worker.",
    ),
    "serve": ("farebox.cli.up", "Run the server on a migrated database; any number of these share one."),
    "worker": (
        "farebox.cli.worker",
        "Send the mails and do the other jobs that servers leave for later. `farebox up` includes one.",
    ),
    "migrate": (
        "farebox.cli.migrate",
        "Bring the database to this version's schema; safe to run twice, and on a live system.",
    ),
    "doctor": (
        "farebox.cli.doctor.command",
        "Check database, migrations, signing keys, models, GPU, disk and clock.",
    ),
    "org": ("farebox.cli.organizations", "Organizations: the tenants."),
    "key": ("farebox.cli.api_keys", "API keys: what customers call with."),
    "keys": ("farebox.cli.signing_keys", "Signing keys: what makes API keys and receipts Farebox's own."),
    "model": ("farebox.cli.models", "Models for sale, and their prices."),
    "price": ("farebox.cli.prices", "The price book: tiers, contracts, prices of plans."),
    "plan": (
        "farebox.cli.plans",
        "Plans: prices, limits, a monthly fee, included credit and a credit line, under a name.",
    ),
    "invoice": ("farebox.cli.invoices", "Invoices, statements and credit notes."),
    "usage": ("farebox.cli.usage", "What was used, and what it cost."),
    "reconcile": (
        "farebox.cli.reconcile",
        "Compare usage, sums, ledger, balances and seals: one number everywhere, or the difference by name.",
    ),
    "verify": (
        "farebox.cli.verify",
        "Check a receipt offline: its signature, and with a proof that the request is in a sealed hour.",
    ),
    "export": (
        "farebox.cli.exports",
        "Usage, costs and the journal as files, which come to what the ledger says.",
    ),
    "margin": (
        "farebox.cli.margin",
        "What was earned beside what the devices cost, by day, organization and model.",
    ),
    "stripe": ("farebox.cli.payments", "Payments: what Stripe told, what to try again, refunds."),
    "openapi": ("farebox.cli.openapi", "Print the OpenAPI document; no database is needed."),
}

EXPECTED = (SettingsError, PostgresError, FareboxError, CommandFailed)


class CommandTree(click.RichGroup):
    """Finds commands by name in COMMANDS, and tells an expected error in one sentence."""

    _listing = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, purpose = COMMANDS[cmd_name]
        if self._listing:
            return click.RichCommand(name=cmd_name, help=purpose)
        command: click.Command = getattr(import_module(module), cmd_name)
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any("\ud800" <= character <= "\udfff" for argument in args for character in argument):
            raise click.UsageError("An argument is not valid UTF-8.", ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            # On one line, without a frame: paths and commands in it are there to be copied.
            click.echo(f"{click.style('Error:', fg='red')} {error}", err=True)
            ctx.exit(1)


@click.group(cls=CommandTree, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="farebox")
def farebox() -> None:
    """Sell your own language models by the token.

    Settings come from FAREBOX_* variables and the TOML file that FAREBOX_CONFIG names.
    """
