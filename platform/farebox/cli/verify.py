"""`farebox verify`: check a receipt, and its proof, without a database."""

import json
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click

from farebox.billing.proofs.schemas import ProofAnswer
from farebox.cli.errors import CommandFailed
from farebox.cli.operation import answer_json, json_option
from farebox.keys.jws import read_jwks
from farebox.metering.receipts.statement import Statement
from farebox.metering.receipts.verification import InvalidReceipt, verify_receipt
from farebox.metering.seals.verification import InvalidProof, compare, verify_proof

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("receipt")
@click.option("--jwks", type=_FILE, required=True, help="The published keys: `/.well-known/jwks.json`.")
@click.option("--proof", type=_FILE, help="The answer of `/v1/organization/proofs/…`.")
@json_option
def verify(receipt: str, jwks: Path, proof: Path | None, as_json: bool) -> None:
    """Check a receipt offline: its signature, and with a proof that the request is in a sealed hour.

    RECEIPT is the receipt's text, or a file that holds it.
    """
    statement, sealed = _check(_text_of(receipt), jwks, proof)
    if as_json:
        answer_json({"statement": statement, "sealed": sealed})
        return
    click.echo(
        f"The receipt is good: {statement.request_id} came to {statement.amount} {statement.currency}."
    )
    if sealed is not None:
        click.echo(f"It stands in the books as sealed: {json.dumps(sealed)}")


def _text_of(receipt: str) -> str:
    path = Path(receipt) if len(receipt) < 256 else None
    return path.read_text().strip() if path is not None and path.is_file() else receipt


def _check(receipt: str, jwks: Path, proof: Path | None) -> tuple[Statement, list[dict[str, Any]] | None]:
    try:
        keys = read_jwks(jwks.read_bytes())
        statement = verify_receipt(receipt, keys)
        if proof is None:
            return statement, None
        leaves = verify_proof(msgspec.json.decode(proof.read_bytes(), type=ProofAnswer), keys)
        compare(statement, leaves)
    except (InvalidReceipt, InvalidProof, msgspec.DecodeError, ValueError) as error:
        raise CommandFailed(f"This is not good: {error}") from None
    return statement, leaves
