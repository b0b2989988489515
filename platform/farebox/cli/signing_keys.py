"""`farebox keys`: the key pairs that sign API keys."""

from typing import Any

import rich_click as click

from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.clock import iso
from farebox.keys import signing
from farebox.keys.sealing import SecretBox, load_secret_box


@click.group()
def keys() -> None:
    """Signing keys: what makes API keys Farebox's own."""


@keys.command()
@json_option
def rotate(as_json: bool) -> None:
    """Sign with a new pair from now on; keys signed by former ones go on working until `retire`."""

    async def work(operation: Operation) -> str:
        async with operation.database.transaction() as session:
            return (await signing.rotate(session, load_secret_box(operation.settings))).kid

    kid = operate(work)
    if as_json:
        answer_json({"kid": kid})
    else:
        click.echo(f"New API keys are signed by {kid}; running servers take it up within a minute.")


@keys.command("list")
@json_option
def list_(as_json: bool) -> None:
    """All pairs, newest first; the newest signs."""

    async def work(operation: Operation) -> list[dict[str, Any]]:
        async with operation.database.transaction() as session:
            rows = await signing.list_signing_keys(session)
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
@click.confirmation_option(prompt="Every API key that this pair signed stops working. Go on?")
def retire(kid: str) -> None:
    """End a pair, and with it every API key it signed."""

    async def work(operation: Operation) -> None:
        async with operation.database.transaction() as session:
            await signing.retire(session, kid)

    operate(work)
    click.echo(f"{kid} is retired.")


@keys.command()
@click.option(
    "--former", prompt="The former FAREBOX_SECRET_KEY", hide_input=True, help="Asked for if absent."
)
def reseal(former: str) -> None:
    """After FAREBOX_SECRET_KEY has changed: seal the signing keys with the new one."""

    async def work(operation: Operation) -> int:
        async with operation.database.transaction() as session:
            present = load_secret_box(operation.settings)
            return await signing.reseal(session, SecretBox(former), present)

    click.echo(f"Signing keys sealed anew: {operate(work)}. Restart the servers.")
