"""`farebox plan`."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import rich_click as click

from farebox.billing.models import Plan
from farebox.billing.plans import PlanTerms, create_plan, list_plans, move_to_plan, retire_plan
from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.money import plain

NOTHING = Decimal(0)


@click.group()
def plan() -> None:
    """Plans: prices, limits, a monthly fee, included credit and a credit line, under a name."""


@plan.command()
@click.argument("name")
@click.option("--monthly-fee", type=identifiers.amount, default=NOTHING, help="Drawn once a month.")
@click.option(
    "--included-credit", type=identifiers.amount, default=NOTHING, help="Promotional, for the month."
)
@click.option("--credit-line", type=identifiers.amount, default=NOTHING, help="How far the balance may fall.")
@click.option("--requests-per-minute", type=click.IntRange(0), help="The setting's, unless given.")
@click.option("--tokens-per-minute", type=click.IntRange(0), help="The setting's, unless given.")
@click.option("--concurrent-requests", type=click.IntRange(0), help="The setting's, unless given.")
@json_option
def create(name: str, as_json: bool, **terms: Any) -> None:
    """Add a plan. It is never changed: a new one follows. Its prices come by `farebox price load`."""

    async def work(operation: Operation) -> str:
        async with operation.database.meter_transaction() as session:
            made = PlanTerms(name=name, currency=operation.settings.currency, **terms)
            return str(await create_plan(session, made))

    plan_id = operate(work)
    if as_json:
        answer_json({"plan_id": plan_id, "name": name})
    else:
        click.echo(f"The plan {name} is there.")


@plan.command("list")
@json_option
def list_(as_json: bool) -> None:
    """All plans, with those that nobody new gets."""

    async def work(operation: Operation) -> list[dict[str, Any]]:
        async with operation.database.meter_transaction() as session:
            return [_describe(each) for each in await list_plans(session)]

    answer_rows(operate(work), as_json=as_json, nothing="No plan; `farebox plan create NAME`.")


@plan.command()
@click.argument("name")
@json_option
def retire(name: str, as_json: bool) -> None:
    """Let nobody new have a plan. Who has it keeps it."""

    async def work(operation: Operation) -> None:
        async with operation.database.meter_transaction() as session:
            await retire_plan(session, name)

    operate(work)
    if as_json:
        answer_json({"name": name, "retired": True})
    else:
        click.echo(f"Nobody new gets the plan {name}.")


@plan.command()
@click.argument("organization", type=identifiers.organization_id)
@click.argument("name", required=False)
@json_option
def give(organization: UUID, name: str | None, as_json: bool) -> None:
    """Give an organization a plan from now on; without NAME, none."""

    async def work(operation: Operation) -> None:
        async with operation.database.meter_transaction() as session:
            await move_to_plan(session, organization, name, operation.settings)

    operate(work)
    if as_json:
        answer_json({"plan": name})
    else:
        click.echo(f"It has the plan {name} from now on." if name else "It has no plan from now on.")


def _describe(each: Plan) -> dict[str, Any]:
    return {
        "name": each.name,
        "monthly_fee": plain(each.monthly_fee, each.currency),
        "included_credit": plain(each.included_credit, each.currency),
        "credit_line": plain(each.credit_line, each.currency),
        "currency": each.currency,
        "requests_per_minute": each.requests_per_minute,
        "tokens_per_minute": each.tokens_per_minute,
        "concurrent_requests": each.concurrent_requests,
        "retired": each.retired_at is not None,
    }
