"""Tiers, contracts and plans; items beside tokens; what each class cost on each event."""

from pathlib import Path

from alembic import op

from farebox.core.sql import statements

revision = "0010_price_book"
down_revision = "0009_ledger"

PRICES = """
CREATE TABLE plan (
    id uuid CONSTRAINT pk_plan PRIMARY KEY,
    name text NOT NULL CONSTRAINT uq_plan_name UNIQUE,
    currency char(3) NOT NULL,
    monthly_fee numeric(30, 12) NOT NULL,
    included_credit numeric(30, 12) NOT NULL,
    credit_line numeric(30, 12) NOT NULL,
    requests_per_minute integer,
    tokens_per_minute bigint,
    concurrent_requests integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    CONSTRAINT ck_plan_not_negative CHECK (monthly_fee >= 0 AND included_credit >= 0 AND credit_line >= 0),
    CONSTRAINT ck_plan_limits CHECK (
        requests_per_minute >= 0 AND tokens_per_minute >= 0 AND concurrent_requests >= 0
    )
);

ALTER TABLE price
    ADD COLUMN organization_id uuid,
    ADD COLUMN plan_id uuid CONSTRAINT fk_price_plan_id REFERENCES plan,
    ADD COLUMN effective_until timestamptz,
    ADD COLUMN scheme text NOT NULL DEFAULT 'flat',
    ADD COLUMN package_tokens bigint,
    ADD COLUMN item_per_million numeric(20, 6) NOT NULL DEFAULT 0,
    ADD CONSTRAINT ck_price_items_not_negative CHECK (item_per_million >= 0),
    ADD CONSTRAINT ck_price_scheme CHECK (scheme IN ('flat', 'graduated', 'volume', 'package')),
    ADD CONSTRAINT ck_price_package CHECK ((scheme = 'package') = (package_tokens IS NOT NULL)),
    ADD CONSTRAINT ck_price_package_tokens CHECK (package_tokens > 0),
    ADD CONSTRAINT ck_price_whose CHECK (organization_id IS NULL OR plan_id IS NULL),
    ADD CONSTRAINT ck_price_period CHECK (effective_until > effective_from);
-- squawk-ignore ban-drop-constraint
ALTER TABLE price DROP CONSTRAINT uq_price_model_id;
CREATE UNIQUE INDEX uq_price_effective_from
    ON price (model_id, organization_id, plan_id, effective_from) NULLS NOT DISTINCT;

CREATE TABLE price_tier (
    price_id uuid NOT NULL CONSTRAINT fk_price_tier_price_id REFERENCES price,
    token_class text NOT NULL,
    starts_at bigint NOT NULL,
    per_million numeric(20, 6) NOT NULL,
    CONSTRAINT pk_price_tier PRIMARY KEY (price_id, token_class, starts_at),
    CONSTRAINT ck_price_tier_token_class CHECK (token_class IN ('input', 'cached_input', 'output')),
    CONSTRAINT ck_price_tier_not_negative CHECK (starts_at >= 0 AND per_million >= 0)
);

CREATE TABLE plan_membership (
    organization_id uuid NOT NULL
        CONSTRAINT fk_plan_membership_organization_id REFERENCES organization ON DELETE CASCADE,
    effective_from timestamptz NOT NULL,
    plan_id uuid CONSTRAINT fk_plan_membership_plan_id REFERENCES plan,
    CONSTRAINT pk_plan_membership PRIMARY KEY (organization_id, effective_from)
);
ALTER TABLE meter_scope ADD COLUMN plan_id uuid;
"""

USAGE = """
ALTER TABLE hold
    ADD COLUMN items integer NOT NULL DEFAULT 0,
    ADD COLUMN item_per_million numeric(20, 6) NOT NULL DEFAULT 0,
    ADD COLUMN tiered boolean NOT NULL DEFAULT false,
    ADD COLUMN worst_tokens bigint NOT NULL DEFAULT 0;
ALTER TABLE usage_event
    ADD COLUMN items integer NOT NULL DEFAULT 0,
    ADD COLUMN item_per_million numeric(20, 6) NOT NULL DEFAULT 0,
    ADD COLUMN input_amount numeric(30, 12) NOT NULL DEFAULT 0,
    ADD COLUMN cached_input_amount numeric(30, 12) NOT NULL DEFAULT 0,
    ADD COLUMN item_amount numeric(30, 12) NOT NULL DEFAULT 0,
    ADD COLUMN tiers_from bigint[];
ALTER TABLE usage_amendment
    ADD COLUMN items integer NOT NULL DEFAULT 0,
    ADD COLUMN input_amount numeric(30, 12) NOT NULL DEFAULT 0,
    ADD COLUMN cached_input_amount numeric(30, 12) NOT NULL DEFAULT 0,
    ADD COLUMN item_amount numeric(30, 12) NOT NULL DEFAULT 0;
ALTER TABLE usage_hour
    ADD COLUMN items bigint NOT NULL DEFAULT 0,
    ADD COLUMN item_amount numeric(30, 12) NOT NULL DEFAULT 0;

CREATE TABLE tier_usage (
    organization_id uuid NOT NULL,
    model_id text NOT NULL,
    month date NOT NULL,
    price_id uuid NOT NULL,
    input_tokens bigint NOT NULL DEFAULT 0,
    cached_input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    billed numeric(30, 12) NOT NULL DEFAULT 0,
    settled_at timestamptz,
    CONSTRAINT pk_tier_usage PRIMARY KEY (organization_id, model_id, month, price_id)
);
-- What tokens of each class cost, and how many of each the month had before.
CREATE TYPE tier_charge AS (input numeric, cached_input numeric, output numeric, used bigint[]);
"""

# What each class cost of what is booked so far, as the sums by hour have it. Also for an owner who is bound
# by the policies: for these statements he is not.
BOOKED = """
ALTER TABLE usage_event NO FORCE ROW LEVEL SECURITY;
ALTER TABLE usage_amendment NO FORCE ROW LEVEL SECURITY;
UPDATE usage_event SET
    input_amount = least(input_tokens * input_per_million * 0.000001, amount),
    cached_input_amount = least(
        cached_input_tokens * cached_input_per_million * 0.000001,
        amount - least(input_tokens * input_per_million * 0.000001, amount)
    );
UPDATE usage_amendment SET
    input_amount = sign(amount)
        * least(abs(input_tokens) * input_per_million * 0.000001, abs(amount)),
    cached_input_amount = sign(amount) * least(
        abs(cached_input_tokens) * cached_input_per_million * 0.000001,
        abs(amount) - least(abs(input_tokens) * input_per_million * 0.000001, abs(amount))
    );
ALTER TABLE usage_amendment FORCE ROW LEVEL SECURITY;
ALTER TABLE usage_event FORCE ROW LEVEL SECURITY;
"""

# Contracts are their organization's; everybody sees the others.
POLICIES = """
ALTER TABLE price ENABLE ROW LEVEL SECURITY;
ALTER TABLE price FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON price FOR SELECT TO farebox_app
    USING (organization_id IS NULL OR organization_id = current_organization());
CREATE POLICY meter ON price TO farebox_meter USING (true) WITH CHECK (true);
ALTER TABLE price_tier ENABLE ROW LEVEL SECURITY;
ALTER TABLE price_tier FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON price_tier FOR SELECT TO farebox_app
    USING (EXISTS (SELECT FROM price p WHERE p.id = price_id));
CREATE POLICY meter ON price_tier TO farebox_meter USING (true) WITH CHECK (true);
ALTER TABLE plan_membership ENABLE ROW LEVEL SECURITY;
ALTER TABLE plan_membership FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON plan_membership TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON plan_membership TO farebox_meter USING (true) WITH CHECK (true);
ALTER TABLE tier_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE tier_usage FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tier_usage TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON tier_usage TO farebox_meter USING (true) WITH CHECK (true);
"""

GRANTS = """
GRANT SELECT ON price_tier, plan, plan_membership, tier_usage TO farebox_app;
GRANT SELECT, INSERT ON price_tier, plan_membership TO farebox_meter;
GRANT SELECT, INSERT, UPDATE ON plan, tier_usage TO farebox_meter;
"""

# Their arguments or columns are others now.
DROPS = """
-- squawk-ignore ban-drop-function
DROP FUNCTION farebox_admit;
-- squawk-ignore ban-drop-function
DROP FUNCTION farebox_rehold;
-- squawk-ignore ban-drop-function
DROP FUNCTION farebox_settle_late;
"""

NEW = ("applicable_price", "tier_cost", "tier_rates", "take_tiers")
CHANGED = ("admit", "settle", "rehold", "amend", "credit", "settle_late")
BEFORE = {"settle_late": "0008"}
FOLDER = Path(__file__).parent / "sql"


def _create(version: str, name: str) -> None:
    script = (FOLDER / version / f"{name}.sql").read_text(encoding="utf-8")
    for statement in statements(script.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")):
        op.execute(statement)


def upgrade() -> None:
    for script in (PRICES, USAGE, BOOKED, POLICIES, GRANTS, DROPS):
        for statement in statements(script):
            op.execute(statement)
    for name in (*NEW, *CHANGED):
        _create("0010", name)


# What the version before would take for everybody's prices.
REFUSAL = """
DO $$ BEGIN
    IF EXISTS (
        SELECT FROM price WHERE organization_id IS NOT NULL OR plan_id IS NOT NULL OR scheme <> 'flat'
    ) THEN
        RAISE 'There are contracts, prices of plans or tiers, which the version before does not know.';
    END IF;
END $$;
"""


def downgrade() -> None:
    op.execute(REFUSAL)
    for statement in statements(DROPS):
        op.execute(statement)
    for name in CHANGED:
        _create(BEFORE.get(name, "0009"), name)
    for name in NEW:
        op.execute(f"DROP FUNCTION {name}" if name == "applicable_price" else f"DROP FUNCTION farebox_{name}")
    op.execute("DROP TYPE tier_charge")
    op.execute("DROP TABLE tier_usage, plan_membership, price_tier")
    op.execute("DROP POLICY tenant ON price")
    op.execute("DROP POLICY meter ON price")
    op.execute("ALTER TABLE price NO FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE price DISABLE ROW LEVEL SECURITY")
    op.execute(
        "ALTER TABLE price DROP COLUMN organization_id, DROP COLUMN plan_id, DROP COLUMN effective_until,"
        " DROP COLUMN scheme, DROP COLUMN package_tokens, DROP COLUMN item_per_million,"
        " ADD CONSTRAINT uq_price_model_id UNIQUE (model_id, effective_from)"
    )
    op.execute("DROP TABLE plan")
    op.execute("ALTER TABLE meter_scope DROP COLUMN plan_id")
    op.execute("ALTER TABLE usage_hour DROP COLUMN items, DROP COLUMN item_amount")
    op.execute(
        "ALTER TABLE usage_amendment DROP COLUMN items, DROP COLUMN input_amount,"
        " DROP COLUMN cached_input_amount, DROP COLUMN item_amount"
    )
    op.execute(
        "ALTER TABLE usage_event DROP COLUMN items, DROP COLUMN item_per_million, DROP COLUMN input_amount,"
        " DROP COLUMN cached_input_amount, DROP COLUMN item_amount, DROP COLUMN tiers_from"
    )
    op.execute(
        "ALTER TABLE hold DROP COLUMN items, DROP COLUMN item_per_million, DROP COLUMN tiered,"
        " DROP COLUMN worst_tokens"
    )
