"""Ids, amounts and dates as operators type them: functions and types for click's `type`."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import rich_click as click

from farebox.billing.months import Month, read_month
from farebox.core.errors import NotFound
from farebox.core.ids import internal
from farebox.core.money import read_plain


def organization_id(typed: str | UUID) -> UUID:
    return _internal("org", typed)


def project_id(typed: str | UUID) -> UUID:
    return _internal("proj", typed)


def key_id(typed: str | UUID) -> UUID:
    return _internal("key", typed)


def top_up_id(typed: str | UUID) -> UUID:
    return _internal("topup", typed)


def amount(typed: str | Decimal) -> Decimal:
    """A plain decimal number; whether it is in range is for the service to say."""
    if isinstance(typed, Decimal):
        return typed
    try:
        return read_plain(typed)
    except ValueError:
        raise click.BadParameter(f"{typed!r} is not an amount; write it like 25.00.") from None


class Moment(click.ParamType[datetime]):
    """A date, or a date and time: in UTC unless it says otherwise."""

    name = "date"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date; write it like 2026-12-31 or 2026-12-31T18:00:00Z.", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class MonthType(click.ParamType[Month]):
    """A UTC month."""

    name = "month"

    def convert(self, value: str | Month, param: click.Parameter | None, ctx: click.Context | None) -> Month:
        if isinstance(value, Month):
            return value
        try:
            return read_month(value)
        except ValueError:
            self.fail(f"{value!r} is no month; write it like 2026-11.", param, ctx)


MOMENT = Moment()
MONTH = MonthType()


def _internal(prefix: str, typed: str | UUID) -> UUID:
    if isinstance(typed, UUID):
        return typed
    try:
        return internal(prefix, typed)
    except NotFound:
        raise click.BadParameter(f"{typed!r} does not look like {prefix}_….") from None
