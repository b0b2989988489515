"""docs/operating.md tells of the commands as they are."""

import re

import rich_click as click

from farebox.cli.main import COMMANDS, farebox
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "operating.md").read_text()
# They run on, or print JSON in any case; the page says so.
WITHOUT_JSON = {"up", "serve", "worker", "openapi"}


def test_every_command_is_in_the_table() -> None:
    table = PAGE.split("## Settings")[0]
    assert set(re.findall(r"`farebox (\w+)`", table)) == set(COMMANDS)


def test_every_command_answers_in_json_but_those_that_are_named() -> None:
    said = PAGE.split("With `--json`")[1].split("\n\n")[0]
    context = click.Context(farebox)
    for name in COMMANDS:
        command = farebox.get_command(context, name)
        assert isinstance(command, click.Command)
        ways = list(command.commands.values()) if isinstance(command, click.Group) else [command]
        for way in ways:
            answers = any("--json" in parameter.opts for parameter in way.params)
            assert answers == (name not in WITHOUT_JSON), (name, way.name)
        assert (f"`{name}`" in said or f"`farebox {name}`" in said) == (name in WITHOUT_JSON)
