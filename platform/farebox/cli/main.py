"""The command's tree. A command is imported when it is called: `farebox key list` need not wait for torch."""

from importlib import import_module
from typing import Any

import rich_click as click

from farebox.cli.errors import CommandFailed
from farebox.core.embedded_postgres import PostgresError
from farebox.core.errors import FareboxError
from farebox.core.settings import SettingsError

COMMANDS = {
    "up": "farebox.cli.serving",
    "serve": "farebox.cli.serving",
    "worker": "farebox.cli.working",
    "migrate": "farebox.cli.migrating",
    "doctor": "farebox.cli.doctor",
    "org": "farebox.cli.organizations",
    "key": "farebox.cli.api_keys",
    "keys": "farebox.cli.signing_keys",
    "model": "farebox.cli.models",
    "usage": "farebox.cli.usage",
    "openapi": "farebox.cli.openapi",
}

EXPECTED = (SettingsError, PostgresError, FareboxError, CommandFailed)


class CommandTree(click.RichGroup):
    """Finds commands by name in COMMANDS, and tells an expected error in one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return command

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
