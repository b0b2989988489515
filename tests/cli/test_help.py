"""Every command explains itself."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich_click as click
from click.testing import CliRunner

from farebox.cli import farebox
from farebox.cli.main import COMMANDS as LISTED
from tests.cli.commands import shell

TOP = (
    *("up", "serve", "worker", "migrate", "doctor"),
    *("org", "key", "keys", "model", "price", "plan", "invoice", "usage"),
    *("reconcile", "verify", "export", "margin", "stripe", "openapi"),
)


def walk(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it, with the words that call them."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, (*path, name))


COMMANDS = list(walk(farebox))


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_help_names_every_option(words: tuple[str, ...], command: click.Command) -> None:
    answer = CliRunner().invoke(farebox, [*words, "--help"], terminal_width=200)
    assert answer.exit_code == 0
    assert command.help
    assert command.help.split(".")[0].split("\n")[0] in " ".join(answer.output.split())
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[-1] in answer.output


def test_the_tree_has_the_commands_of_the_manual() -> None:
    assert farebox.list_commands(click.Context(farebox)) == list(TOP)
    known = {" ".join(words) for words, _ in COMMANDS}
    assert known >= {"org create", "key create", "key revoke", "key list", "keys rotate", "keys reseal"}
    assert known >= {"model add", "model list", "model price", "model remove", "usage show"}


def test_the_list_says_of_a_command_what_its_own_help_begins_with() -> None:
    tops = {words[0]: command for words, command in COMMANDS if len(words) == 1}
    listed = {name: purpose for name, (_, purpose) in LISTED.items()}
    assert listed == {
        name: " ".join((command.help or "").split("\n\n")[0].split()) for name, command in tops.items()
    }


def test_help_comes_without_torch() -> None:
    script = "import sys; from farebox.cli import farebox; farebox(['--help'], standalone_mode=False)"
    script += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_the_command_itself_answers(tmp_path: Path) -> None:
    there = shell(tmp_path)
    for answer in (there.run(), there.run("-h"), there.spawn("--help")):
        assert all(name in answer.out for name in TOP), answer
    assert there.spawn("--version").out.startswith("farebox, version ")
    assert "No such command 'sell'" in there.spawn("sell").refusal
