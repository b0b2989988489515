"""`farebox org ceilings`: the most that one customer may have or set for itself."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import rich_click as click
from msgspec import UNSET, UnsetType

from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.ids import external
from farebox.core.settings import Settings
from farebox.limits.ceilings import Lowered, set_ceilings
from farebox.limits.service import MAX_LIMIT
from farebox.tenants.ceilings import CeilingChange, OwnCeilings

Command = Callable[..., None]


def _number(typed: str | int | UnsetType | None) -> int | UnsetType | None:
    """A ceiling as it is typed; `default` goes back to the setting. Others are click's own conversions."""
    if not isinstance(typed, str):
        return typed
    if typed == "default":
        return None
    if not (typed.isascii() and typed.isdigit() and int(typed) <= MAX_LIMIT):
        raise click.BadParameter(f"{typed!r} is neither a whole number up to {MAX_LIMIT} nor `default`.")
    return int(typed)


def _names(typed: str | list[str] | UnsetType | None) -> list[str] | UnsetType | None:
    """Models with commas between them; `all` allows every model."""
    if not isinstance(typed, str):
        return typed
    return None if typed == "all" else sorted({name for each in typed.split(",") if (name := each.strip())})


def _numbers(command: Command) -> Command:
    """An option for each ceiling that is a number."""
    # The one that is added last stands first in the help.
    for name in ("keys", "projects", "concurrent-requests", "tokens-per-minute", "requests-per-minute"):
        field = f"max_{name.replace('-', '_')}"
        words = f"{name.replace('-', ' ').capitalize()}; `default`: the setting."
        command = click.option(f"--{name}", field, type=_number, default=UNSET, metavar="N", help=words)(
            command
        )
    return command


@click.command()
@click.argument("organization", type=identifiers.organization_id)
@_numbers
@click.option(
    "--models",
    "allowed_models",
    type=_names,
    default=UNSET,
    metavar="NAMES",
    help="What its keys may call, with commas; `all`: every model.",
)
@json_option
def ceilings(organization: UUID, as_json: bool, **change: Any) -> None:
    """Show or set the most that an organization may have, or set as its own limits.

    Limits above a ceiling are lowered to it at once.
    """

    async def work(operation: Operation) -> tuple[dict[str, Any], list[Lowered]]:
        async with operation.database.meter_transaction() as session:
            own, lowered = await set_ceilings(
                session, organization, CeilingChange(**change), operation.settings
            )
        return _effective(own, operation.settings), lowered

    holding, lowered = operate(work)
    if as_json:
        answer_json({"id": external("org", organization), "ceilings": holding, "lowered": lowered})
        return
    answer_rows([_describe(name, each) for name, each in holding.items()], as_json=False, nothing="")
    for each in lowered:
        before = "no limit" if each.before is None else _plain(each.before)
        click.echo(f"Lowered: {each.limit} of {each.id}, from {before} to {_plain(each.now)}.")


def _effective(own: OwnCeilings, settings: Settings) -> dict[str, Any]:
    """What holds, and whether it is the organization's own."""
    return {
        name: {"most": getattr(settings, name, None) if value is None else value, "own": value is not None}
        for name, value in msgspec.structs.asdict(own).items()
    }


def _describe(name: str, ceiling: dict[str, Any]) -> dict[str, str]:
    source = "this organization" if ceiling["own"] else "settings"
    return {"ceiling": name, "most": _plain(ceiling["most"]), "set_by": source}


def _plain(value: int | list[str] | None) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return "all" if value is None else str(value)
