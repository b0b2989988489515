"""`farebox keys`: the key pairs that sign API keys and receipts."""

import os
from collections.abc import Mapping
from typing import Any, get_args

import rich_click as click

from farebox.cli.errors import CommandFailed
from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.clock import iso
from farebox.core.settings import Settings, load_settings
from farebox.keys import signing
from farebox.keys.sealing import SecretBox, development_secret_file, load_secret_box

FORMER = "FAREBOX_FORMER_SECRET_KEY"

_purpose_option = click.option(
    "--purpose",
    type=click.Choice(get_args(signing.Purpose)),
    default="api_key",
    show_default=True,
    help="What the pair signs.",
)


@click.group()
def keys() -> None:
    """Signing keys: what makes API keys and receipts Farebox's own."""


@keys.command()
@_purpose_option
@json_option
def rotate(purpose: signing.Purpose, as_json: bool) -> None:
    """Sign with a new pair from now on; what former ones signed stays good until `retire`."""

    async def work(operation: Operation) -> str:
        async with operation.database.transaction() as session:
            return (await signing.rotate(session, load_secret_box(operation.settings), purpose)).kid

    kid = operate(work)
    if as_json:
        answer_json({"kid": kid})
    else:
        signed = "API keys" if purpose == "api_key" else "receipts"
        click.echo(f"New {signed} are signed by {kid}; running servers take it up within seconds.")


@keys.command("list")
@_purpose_option
@json_option
def list_(purpose: signing.Purpose, as_json: bool) -> None:
    """All pairs of a purpose, newest first; the newest signs."""

    async def work(operation: Operation) -> list[dict[str, Any]]:
        async with operation.database.transaction() as session:
            rows = await signing.list_signing_keys(session, purpose)
        return [
            {
                "kid": row.kid,
                "created_at": iso(row.created_at),
                "retired_at": iso(row.retired_at) if row.retired_at else None,
            }
            for row in rows
        ]

    answer_rows(operate(work), as_json=as_json, nothing="None yet; the first start makes one.")


@keys.command()
@click.argument("kid")
@click.confirmation_option(prompt="Every API key and receipt that this pair signed is good no longer. Go on?")
@json_option
def retire(kid: str, as_json: bool) -> None:
    """End a pair, and with it every API key and receipt it signed."""

    async def work(operation: Operation) -> None:
        async with operation.database.transaction() as session:
            await signing.retire(session, kid)

    operate(work)
    if as_json:
        answer_json({"kid": kid, "retired": True})
    else:
        click.echo(f"{kid} is retired.")


@keys.command()
@json_option
def reseal(as_json: bool) -> None:
    """Seal the signing keys with a new FAREBOX_SECRET_KEY.

    The former secret comes from FAREBOX_FORMER_SECRET_KEY: an argument could be read by every user
    of the machine. All keys are sealed anew, or none.
    """
    settings, former = _read_former(os.environ)

    async def work(operation: Operation) -> signing.Resealed:
        async with operation.database.transaction() as session:
            return await signing.reseal(session, SecretBox(former), load_secret_box(operation.settings))

    done = operate(work, settings)
    if as_json:
        answer_json(done)
    elif done.anew:
        click.echo(
            f"Signing keys sealed anew: {done.anew}. Start the servers with the new FAREBOX_SECRET_KEY and"
            f" without {FORMER}; the former secret opens nothing any more."
        )
    else:
        click.echo("The signing keys are sealed with this FAREBOX_SECRET_KEY already; nothing was changed.")
    if done.lost:
        click.echo(
            f"{done.lost} former pairs open with neither secret. What they signed goes on working.", err=True
        )


def _read_former(environ: Mapping[str, str]) -> tuple[Settings, str]:
    """The settings, and the former secret, which is no setting: a server must not start with it."""
    former = environ.get(FORMER)
    settings = load_settings({name: value for name, value in environ.items() if name != FORMER})
    if not former:
        raise CommandFailed(
            f"Set {FORMER} to the secret that the signing keys are sealed with now, and FAREBOX_SECRET_KEY to"
            f" the new one. Development keeps its secret in {development_secret_file(settings)}."
        )
    return settings, former
