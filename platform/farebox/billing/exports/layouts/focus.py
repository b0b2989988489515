"""FOCUS 1.2: the FinOps Open Cost and Usage Specification (focus.finops.org), with 1.3's names on request.

What is charged is a row: usage by hour, project, model and class of tokens, and each fee. Credit that was
paid in beforehand is a product of its own, `prepaid-credit`, of which one unit is one of the currency. A
top-up buys it. What it pays of a charge is taken off again, so that nothing is billed twice. As the
specification asks, what is bought for later has no effective cost: that is where it is used. Promotional
credit that was used is a `Credit`.

So the sum of BilledCost is what was paid in, and what is owed more than before. The sum of EffectiveCost is
what was earned, less what was given away.
"""

from farebox.billing.exports.layouts.layout import Column, Layout
from farebox.billing.exports.layouts.rows import DRAWN, EARNED, IN_PERIOD, OTHERS, USAGE, USAGE_ORDER

# Of the connection's time zone, which is UTC.
MONTH = "date_trunc('month', {moment})"

# What every section offers to the columns below. What it does not name is NULL.
_CHARGE: dict[str, str] = {
    "billed": "numeric",
    "effective": "numeric",
    "list_cost": "numeric",
    "contracted": "numeric",
    "currency": "text",
    "category": "text",
    "description": "text",
    "frequency": "text",
    "starts": "timestamptz",
    "ends": "timestamptz",
    "organization_id": "uuid",
    "organization": "text",
    "project_id": "uuid",
    "project": "text",
    "sku": "text",
    "meter": "text",
    "price": "text",
    "details": "text",
    "quantity": "numeric",
    "unit": "text",
    "list_unit": "numeric",
    "contracted_unit": "numeric",
    "pricing_category": "text",
    "consumed": "numeric",
    "consumed_unit": "text",
    "tags": "text",
    "model": "text",
    "token_class": "text",
    "tokens": "bigint",
    "kind": "text",
    "reference": "text",
}


def _charges(source: str, order: str, where: str = "", **given: str) -> str:
    values = ", ".join(f"({given.get(name, 'NULL')})::{kind} AS {name}" for name, kind in _CHARGE.items())
    return f"SELECT {values} FROM ({source}) r {where} ORDER BY {order}"  # noqa: S608


# What came back of an earlier hour can make an hour's sum negative: that is a credit, and no usage.
_IS_USAGE = "r.amount >= 0 AND r.quantity > 0"
_METERS = (
    "CASE r.token_class WHEN 'input' THEN 'Input Tokens' WHEN 'cached_input' THEN 'Cached Input Tokens'"
    " WHEN 'output' THEN 'Output Tokens' ELSE 'Items' END"
)
_LIST_UNIT = "coalesce(r.list_per_million, r.amount * 1000000 / r.quantity) / 1000"

_USAGE = _charges(
    USAGE,
    USAGE_ORDER,
    billed="r.amount",
    effective="r.amount",
    list_cost=f"CASE WHEN {_IS_USAGE} THEN {_LIST_UNIT} * r.quantity / 1000 ELSE r.amount END",
    contracted="r.amount",
    currency="r.currency",
    category=f"CASE WHEN {_IS_USAGE} THEN 'Usage' ELSE 'Credit' END",
    description=f"r.model || ', ' || replace(r.token_class, '_', ' ')"
    f" || CASE WHEN {_IS_USAGE} THEN '' ELSE ', given back' END",
    frequency="'Usage-Based'",
    starts="r.starts",
    ends="r.ends",
    organization_id="r.organization_id",
    organization="r.organization",
    project_id="r.project_id",
    project="r.project",
    sku="r.model || '/' || r.token_class",
    meter=_METERS,
    price="r.model || '/' || r.token_class || coalesce('/' || r.price_id, '')",
    details="json_build_object('x_Model', r.model_id, 'x_TokenClass', r.token_class)",
    quantity=f"CASE WHEN {_IS_USAGE} THEN r.quantity::numeric / 1000 END",
    unit=f"CASE WHEN {_IS_USAGE} THEN"
    " CASE r.token_class WHEN 'items' THEN '1000 Items' ELSE '1000 Tokens' END END",
    list_unit=f"CASE WHEN {_IS_USAGE} THEN {_LIST_UNIT} END",
    contracted_unit=f"CASE WHEN {_IS_USAGE} THEN r.amount * 1000 / r.quantity END",
    pricing_category="'Standard'",
    consumed=f"CASE WHEN {_IS_USAGE} THEN r.quantity END",
    consumed_unit=f"CASE WHEN {_IS_USAGE} THEN"
    " CASE r.token_class WHEN 'items' THEN 'Items' ELSE 'Tokens' END END",
    tags="json_build_object('farebox/model', r.model_id)",
    model="r.model",
    token_class="r.token_class",  # noqa: S106  a column
    tokens="r.quantity",
    kind="'usage'",
)

_PREPAID = {
    "sku": "'prepaid-credit'",
    "meter": "'Prepaid Credit'",
    "price": "'prepaid-credit'",
    "unit": "'Credits'",
    "list_unit": "1",
    "contracted_unit": "1",
    "pricing_category": "'Standard'",
}
_OF_ORGANIZATION = {
    "currency": "r.currency",
    "starts": "r.starts",
    "ends": "r.starts + interval '1 hour'",
    "organization_id": "r.organization_id",
    "organization": "r.organization",
}


def _costs(amount: str, *, effective: str) -> dict[str, str]:
    return {"billed": amount, "list_cost": amount, "contracted": amount, "effective": effective}


_WITH_NAME = (
    f"SELECT d.*, {{text:o.name}} AS organization FROM ({DRAWN}) d"  # noqa: S608
    " JOIN organization o ON o.id = d.organization_id"
)
_BY_HOUR = "organization_id, starts, currency"
_PAID_FROM_PREPAID = _charges(
    _WITH_NAME,
    _BY_HOUR,
    "WHERE r.prepaid <> 0",
    **_costs("r.prepaid", effective="0"),
    **_PREPAID,
    **_OF_ORGANIZATION,
    quantity="r.prepaid",
    category="'Purchase'",
    frequency="'Recurring'",
    description="'Prepaid credit used'",
    kind="'drawdown'",
)
_PAID_FROM_PROMOTIONAL = _charges(
    _WITH_NAME,
    _BY_HOUR,
    "WHERE r.promotional <> 0",
    **_costs("r.promotional", effective="r.promotional"),
    **_OF_ORGANIZATION,
    category="'Credit'",
    frequency="'Usage-Based'",
    description="'Promotional credit used'",
    kind="'promotion'",
)

_BY_TRANSFER = "organization_id, created_at, id"
_PURCHASED = "(CASE WHEN r.credit_account = 'prepaid' THEN r.amount ELSE -r.amount END)"
_PREPAID_MOVED = _charges(
    OTHERS,
    _BY_TRANSFER,
    "WHERE 'prepaid' IN (r.debit_account, r.credit_account)",
    **_costs(_PURCHASED, effective="0"),
    **_PREPAID,
    **_OF_ORGANIZATION,
    quantity=_PURCHASED,
    category="'Purchase'",
    frequency="'One-Time'",
    description="CASE WHEN r.credit_account = 'prepaid' THEN 'Prepaid credit, '"
    " ELSE 'Prepaid credit used, ' END || replace(r.kind, '_', '-')",
    kind="r.kind",
    reference="r.reference",
)

_CREDIT_EARNED = EARNED.format(account="r.credit_account")
_DEBIT_EARNED = EARNED.format(account="r.debit_account")
_CHARGED = f"(CASE WHEN {_CREDIT_EARNED} THEN r.amount ELSE -r.amount END)"
_IS_FEE = f"(r.kind = 'fee' AND {_CREDIT_EARNED})"
_EARNED_ACCOUNT = f"CASE WHEN {_CREDIT_EARNED} THEN r.credited ELSE r.debited END"
# A fee is of its month; everything else is of its hour.
_OF_MONTH = _OF_ORGANIZATION | {
    "starts": f"CASE WHEN {_IS_FEE} THEN {MONTH.format(moment='r.starts')} ELSE r.starts END",
    "ends": f"CASE WHEN {_IS_FEE} THEN {MONTH.format(moment='r.starts')} + interval '1 month'"
    " ELSE r.starts + interval '1 hour' END",
}
_FEE = {
    name: f"CASE WHEN {_IS_FEE} THEN {value} END"
    for name, value in {
        "sku": _EARNED_ACCOUNT,
        "meter": "'Monthly Fee'",
        "price": _EARNED_ACCOUNT,
        "quantity": "1",
        "unit": "'Months'",
        "list_unit": "r.amount",
        "contracted_unit": "r.amount",
    }.items()
}
_CHARGES = _charges(
    OTHERS,
    _BY_TRANSFER,
    f"WHERE {_CREDIT_EARNED} <> {_DEBIT_EARNED}",
    **_costs(_CHARGED, effective=f"CASE WHEN {_IS_FEE} THEN 0 ELSE {_CHARGED} END"),
    **_OF_MONTH,
    **_FEE,
    category=f"CASE WHEN r.kind = 'tax' THEN 'Tax' WHEN {_IS_FEE} THEN 'Purchase' ELSE 'Adjustment' END",
    frequency=f"CASE WHEN {_IS_FEE} THEN 'Recurring' ELSE 'One-Time' END",
    description=f"replace(r.kind, '_', ' ') || ', ' || ({_EARNED_ACCOUNT})",
    pricing_category="CASE WHEN r.kind <> 'tax' THEN 'Standard' END",
    kind="r.kind",
    reference="r.reference",
)
# What was bought for a month is used in that month: it has its effective cost there.
_FEES_USED = _charges(
    OTHERS,
    _BY_TRANSFER,
    f"WHERE {_IS_FEE}",
    **_costs("r.amount", effective="r.amount") | {"billed": "0"},
    **_OF_MONTH,
    **_FEE,
    category="'Usage'",
    frequency="'Recurring'",
    description=f"'fee, used, ' || ({_EARNED_ACCOUNT})",
    pricing_category="'Standard'",
    consumed="1",
    consumed_unit="'Months'",
    kind="r.kind",
    reference="r.reference",
)
# A transfer between promotional credit and what was earned, that no request made.
_PROMOTED = "(CASE WHEN r.credit_account = 'promotional' THEN r.amount ELSE -r.amount END)"
_PROMOTIONAL_MOVED = _charges(
    OTHERS,
    _BY_TRANSFER,
    f"WHERE 'promotional' IN (r.debit_account, r.credit_account) AND ({_CREDIT_EARNED} OR {_DEBIT_EARNED})",
    **_costs(_PROMOTED, effective=_PROMOTED),
    **_OF_ORGANIZATION,
    category="'Credit'",
    frequency="'One-Time'",
    description="'Promotional credit used, ' || replace(r.kind, '_', '-')",
    kind="r.kind",
    reference="r.reference",
)


def _expected() -> str:
    """What was paid in or is owed more; what was earned less what was given away.

    No row above reads the accounts of the first.
    """
    paid = "({account} IN ('cash', 'receivable', 'refunds', 'disputed', 'processor_fees'))"
    given = f"({EARNED} OR {{account}} IN ('promotional', 'promotion'))"
    outside, inside = (
        f"{each.format(account='t.' + plus)}::int - {each.format(account='t.' + minus)}::int"
        for each, plus, minus in (
            (paid, "debit_account", "credit_account"),
            (given, "credit_account", "debit_account"),
        )
    )
    return (
        f"SELECT t.currency, sum(t.amount * ({outside})) AS billed,"  # noqa: S608
        f" sum(t.amount * ({inside})) AS effective"
        f" FROM ledger_transfer t WHERE {IN_PERIOD} GROUP BY t.currency"
    )


def _month(moment: str, *, end: bool = False) -> str:
    return MONTH.format(moment=moment) + (" + interval '1 month'" if end else "")


_PROVIDER = "$5::text"
_COLUMNS = (
    Column("ListCost", "list_cost", "money"),
    Column("ContractedCost", "contracted", "money"),
    Column("BillingAccountId", "'org_' || replace(organization_id::text, '-', '')"),
    Column("BillingAccountName", "organization"),
    Column("BillingPeriodStart", _month("starts"), "moment"),
    Column("BillingPeriodEnd", _month("starts", end=True), "moment"),
    Column("ChargePeriodStart", "starts", "moment"),
    Column("ChargePeriodEnd", "ends", "moment"),
    Column("ChargeCategory", "category"),
    Column("ChargeClass", "NULL"),
    Column("ChargeDescription", "description"),
    Column("ChargeFrequency", "frequency"),
    Column("ConsumedQuantity", "consumed", "quantity"),
    Column("ConsumedUnit", "consumed_unit"),
    Column("ContractedUnitPrice", "contracted_unit", "unit_price"),
    Column("InvoiceId", "NULL"),
    Column("InvoiceIssuerName", _PROVIDER),
    Column("ListUnitPrice", "list_unit", "unit_price"),
    Column("PricingCategory", "pricing_category"),
    Column("PricingQuantity", "quantity", "quantity"),
    Column("PricingUnit", "unit"),
    Column("ProviderName", _PROVIDER),
    Column("PublisherName", _PROVIDER),
    Column("ServiceCategory", "'AI and Machine Learning'"),
    Column("ServiceName", "'Model API'"),
    Column("ServiceSubcategory", "'Generative AI'"),
    Column("SkuId", "sku"),
    Column("SkuMeter", "meter"),
    Column("SkuPriceDetails", "details"),
    Column("SkuPriceId", "price"),
    Column("SubAccountId", "'proj_' || replace(project_id::text, '-', '')"),
    Column("SubAccountName", "project"),
    Column("Tags", "tags"),
)
_SINCE_1_3 = (Column("ServiceProviderName", _PROVIDER), Column("HostProviderName", _PROVIDER))
_OWN = (
    Column("x_Kind", "kind"),
    Column("x_Model", "model"),
    Column("x_TokenClass", "token_class"),
    Column("x_Tokens", "tokens", "count"),
    Column("x_Reference", "reference"),
)


def focus(*, since_1_3: bool = False) -> Layout:
    """The layout of FOCUS 1.2; with 1.3's names of providers beside, if asked for."""
    return Layout(
        measures=(Column("BilledCost", "billed", "money"), Column("EffectiveCost", "effective", "money")),
        keys=(Column("BillingCurrency", "currency"),),
        columns=(*_COLUMNS, *(_SINCE_1_3 if since_1_3 else ()), *_OWN),
        sections=(
            _USAGE, _PAID_FROM_PREPAID, _PAID_FROM_PROMOTIONAL, _CHARGES, _FEES_USED, _PREPAID_MOVED,
            _PROMOTIONAL_MOVED,
        ),
        expected=_expected(),
    )  # fmt: skip
