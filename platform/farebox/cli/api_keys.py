"""`farebox key`: customers' API keys."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import rich_click as click

from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.clock import iso, utc_now
from farebox.core.errors import NotFound
from farebox.core.ids import external
from farebox.keys.models import ApiKey
from farebox.keys.service import SCOPES, create_key, list_keys, organization_of_key, revoke_key
from farebox.keys.tokens import Keyring
from farebox.tenants.organizations import list_projects


@click.group()
def key() -> None:
    """API keys: what customers call with."""


@key.command()
@click.option("--organization", type=identifiers.organization_id, required=True)
@click.option("--project", type=identifiers.project_id, help="By default the organization's first.")
@click.option("--name", default="Operator", show_default=True)
@click.option("--scope", "scopes", multiple=True, default=["inference"], type=click.Choice(sorted(SCOPES)))
@click.option("--model", "models", multiple=True, help="Allow only these; by default all.")
@click.option(
    "--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long it lives."
)
@json_option
def create(
    organization: UUID,
    project: UUID | None,
    name: str,
    scopes: tuple[str, ...],
    models: tuple[str, ...],
    days: int,
    as_json: bool,
) -> None:
    """Make a key. It is shown now and never again."""

    async def work(operation: Operation) -> dict[str, str]:
        keyring = await Keyring.load(operation.database, operation.settings)
        async with operation.database.transaction(organization_id=organization) as session:
            project_id = project or await _first_project(session, organization)
            minted = await create_key(
                session,
                keyring,
                organization_id=organization,
                project_id=project_id,
                name=name,
                scopes=scopes,
                models=models or None,
                lifetime=timedelta(days=days),
            )
        return {
            "id": external("key", minted.row.id),
            "project_id": external("proj", project_id),
            "api_key": minted.token,
            "expires_at": iso(minted.row.expires_at),
        }

    made = operate(work)
    if as_json:
        answer_json(made)
    else:
        click.echo(f"{made['id']}, good until {made['expires_at']}. Shown once:", err=True)
        click.echo(made["api_key"])


@key.command("list")
@click.option("--organization", type=identifiers.organization_id, required=True)
@json_option
def list_(organization: UUID, as_json: bool) -> None:
    """An organization's keys, newest first."""

    async def work(operation: Operation) -> list[dict[str, Any]]:
        async with operation.database.transaction(organization_id=organization) as session:
            return [_describe(row) for row in await list_keys(session, organization_id=organization)]

    answer_rows(operate(work), as_json=as_json, nothing="No keys; `farebox key create` makes one.")


@key.command()
@click.argument("key_id", type=identifiers.key_id)
@json_option
def revoke(key_id: UUID, as_json: bool) -> None:
    """End a key; it fails from its next request on."""

    async def work(operation: Operation) -> None:
        async with operation.database.meter_transaction() as session:
            organization_id = await organization_of_key(session, key_id)
        async with operation.database.transaction(organization_id=organization_id) as session:
            await revoke_key(session, organization_id=organization_id, key_id=key_id, actor_id=None)

    operate(work)
    if as_json:
        answer_json({"id": external("key", key_id), "revoked": True})
    else:
        click.echo(f"{external('key', key_id)} is revoked.")


async def _first_project(session: Any, organization_id: UUID) -> UUID:
    projects = await list_projects(session, organization_id)
    if not projects:
        raise NotFound("No such organization, or it has no project.")
    return projects[0].id


def _describe(row: ApiKey) -> dict[str, Any]:
    state = "revoked" if row.revoked_at else "expired" if row.expires_at <= utc_now() else "active"
    return {
        "id": external("key", row.id),
        "name": row.name,
        "ends_in": row.last_four,
        "state": state,
        "scopes": ", ".join(row.scopes),
        "models": None if row.models is None else ", ".join(row.models) or "none",
        "project_id": external("proj", row.project_id),
        "expires_at": iso(row.expires_at),
        "last_used_at": iso(row.last_used_at) if row.last_used_at else None,
    }
