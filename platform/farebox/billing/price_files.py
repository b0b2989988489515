"""Price books as files in TOML: to be entered, or held against a past month.

```toml
[[price]]
model = "my-model"
input = "0.50"                  # per million tokens
output = "1.50"

[[price]]
model = "my-model"
organization = "org_..."        # a contract; or plan = "Team"
scheme = "graduated"            # or volume; package, with package_tokens
input = [[0, "0.50"], [1000000, "0.40"]]
output = [[0, "1.50"], [1000000, "1.20"]]
```
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidPrice
from farebox.billing.plans import find_plan
from farebox.billing.prices import add_price
from farebox.billing.terms import Terms, parse_price
from farebox.billing.tiers import Scheme, Tariff, Tier, TokenClass
from farebox.core.database import present
from farebox.core.ids import internal

Rates = str | Annotated[list[tuple[int, str]], Meta(min_length=1)]


class FiledPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price as its file has it. `cached_input` is as `input` unless it is given."""

    model: str
    input: Rates
    output: Rates = "0"
    cached_input: Rates | None = None
    item: str = "0"
    scheme: Scheme = "flat"
    package_tokens: int | None = None
    organization: str | None = None
    plan: str | None = None
    effective_from: datetime | None = None
    effective_until: datetime | None = None

    @property
    def organization_id(self) -> UUID | None:
        """Raises NotFound for what is no organization's id."""
        return None if self.organization is None else internal("org", self.organization)

    def terms(self, currency: str) -> Terms:
        """Raises InvalidAmount, InvalidPrice."""
        rates: dict[TokenClass, Rates] = {
            "input": self.input,
            "cached_input": self.input if self.cached_input is None else self.cached_input,
            "output": self.output,
        }
        tariffs = {name: self._tariff(each) for name, each in rates.items()}
        terms = Terms(currency=currency, tariffs=tariffs, item_per_million=parse_price(self.item))
        terms.check()
        return terms

    def _tariff(self, rates: Rates) -> Tariff:
        tiers = [(0, rates)] if isinstance(rates, str) else rates
        return Tariff(
            scheme=self.scheme,
            tiers=tuple(Tier(starts_at, parse_price(rate)) for starts_at, rate in tiers),
            package_tokens=self.package_tokens,
        )


class PriceFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    price: Annotated[list[FiledPrice], Meta(min_length=1)]


def read_price_file(path: Path) -> Sequence[FiledPrice]:
    """Raises InvalidPrice, which says where the file is wrong."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=PriceFile).price
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise InvalidPrice(f"{path.name} is no price book: {error}.") from None


async def enter_prices(session: AsyncSession, prices: Sequence[FiledPrice], currency: str) -> list[UUID]:
    """Add all prices of a file, or none. Raises what `add_price` does."""
    now = await present(session)
    return [
        await add_price(
            session,
            each.model,
            each.terms(currency),
            organization_id=each.organization_id,
            plan_id=None if each.plan is None else (await find_plan(session, each.plan)).id,
            effective_from=_in_utc(each.effective_from),
            effective_until=_in_utc(each.effective_until),
            now=now,
        )
        for each in prices
    ]


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
