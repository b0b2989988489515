"""A table is read and written only by the domain that owns it, in SQL text and through its model alike."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from farebox.core.database import Model

PLATFORM = Path(__file__).resolve().parents[2] / "platform" / "farebox"

# Whoever may touch another domain's tables, and why. An entry that is not needed fails the test as well.
ALLOWED: dict[str, set[str]] = {
    # Money: what decides about a request and what books it is one transaction, in one round trip, under locks
    # that no service call between domains could hold as shortly. See ADR 7.
    "metering/sql/admit.sql": {"api_key", "meter_scope", "model", "organization", "project"},
    "metering/sql/settle.sql": {"api_key", "ledger_transfer", "meter_scope"},
    "metering/sql/rehold.sql": {"meter_scope", "price"},
    "metering/sql/amend.sql": {"ledger_transfer", "meter_scope", "price"},
    "metering/sql/credit.sql": {"ledger_transfer", "meter_scope"},
    "metering/sql/settle_late.sql": {"price"},
    "metering/sql/take_tiers.sql": {"price"},
    "metering/sql/tier_cost.sql": {"price_tier"},
    "metering/sql/tier_rates.sql": {"price", "price_tier"},
    # Comparing all books at one moment is one question to all of them. It only reads.
    "billing/reconciliation/sums.py": {"usage_amendment", "usage_event", "usage_hour", "usage_minute"},
    "billing/reconciliation/transfers.py": {
        "meter_scope",
        "usage_amendment",
        "usage_event",
        "usage_hour",
    },
    "billing/reconciliation/scopes.py": {
        "hold",
        "meter_scope",
        "usage_amendment",
        "usage_event",
        "usage_hour",
    },
    # A key opens something as long as its holder, its project and its organization say so: one statement
    # judges all of them at one moment. It only reads.
    "keys/service.py": {"membership", "organization", "project"},
    # The same question for many keys at once; the holder is left to admission.
    "keys/standing.py": {"organization", "project"},
    # Whether there can be money for a request, asked before its body: what admission would say of any amount,
    # in one statement. It only reads.
    "gateway/gate/purses.py": {"api_key", "meter_scope", "model", "price_tier"},
    # `usage` reads the books that `metering` writes, with the names of what they speak of. It only reads.
    "usage/queries.py": {
        "api_key",
        "hold",
        "project",
        "usage_amendment",
        "usage_event",
        "usage_hour",
        "usage_minute",
    },
    "usage/device_time.py": {"organization", "usage_event", "usage_hour"},
    "usage/line_items.py": {"api_key", "usage_hour"},
    "usage/monthly.py": {"usage_hour"},
    "usage/totals.py": {"organization", "usage_hour"},
    # Exports copy sums and names out in Postgres's own words, any number of rows, in one statement. They only
    # read.
    "billing/exports/layouts/focus.py": {"organization"},
    "billing/exports/layouts/rows.py": {"organization", "project", "usage_hour"},
}

_SQL = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|FROM|JOIN)\b")
_TABLE = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|USING|ONLY)\s+([a-z_]+)\b")


def load_models() -> None:
    """Of each domain, and of the rooms within one."""
    for path in PLATFORM.rglob("models.py"):
        import_module(".".join(("farebox", *path.relative_to(PLATFORM).with_suffix("").parts)))
    for path in [*PLATFORM.glob("*/models*.py"), *PLATFORM.glob("*/*/models.py")]:
        import_module(".".join(["farebox", *path.relative_to(PLATFORM).with_suffix("").parts]))
    import_module("farebox.core.outbox")


def tables_by_model() -> dict[str, str]:
    load_models()
    return {mapper.class_.__name__: mapper.class_.__tablename__ for mapper in Model.registry.mappers}


def owners() -> dict[str, str]:
    """The tables, by the domain in which their model is defined."""
    load_models()
    return {
        mapper.class_.__tablename__: mapper.class_.__module__.split(".")[1]
        for mapper in Model.registry.mappers
    }


def tables_in_sql(script: str) -> set[str]:
    return set(_TABLE.findall(re.sub(r"--[^\n]*", "", script)))


def tables_in_text(tree: ast.Module) -> set[str]:
    """Named by SQL in string literals, f-strings among them."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.search(node.value):
            found |= tables_in_sql(node.value)
    return found


def tables_of_models(tree: ast.Module) -> set[str]:
    """Of models that are worked with. Named as a type alone, a model is what another's service gave."""
    tables, imported = tables_by_model(), dict[str, str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("farebox."):
            imported |= {
                each.asname or each.name: tables[each.name] for each in node.names if each.name in tables
            }
    types = {id(part) for annotation in annotations(tree) for part in ast.walk(annotation)}
    return {
        imported[node.id]
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in imported and id(node) not in types
    }


def annotations(tree: ast.Module) -> Iterator[ast.expr]:
    """Types of arguments, results and variables, and aliases such as `Factory = Callable[[Model], int]`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns
        elif isinstance(node, ast.Subscript):
            yield node


def tables_touched(path: Path) -> set[str]:
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".sql":
        return tables_in_sql(source)
    tree = ast.parse(source)
    return tables_in_text(tree) | tables_of_models(tree)


def test_each_domain_touches_its_own_tables_only() -> None:
    owned, foreign = owners(), dict[str, set[str]]()
    for path in [*PLATFORM.rglob("*.py"), *PLATFORM.glob("*/sql/*.sql")]:
        name = path.relative_to(PLATFORM).as_posix()
        touched = tables_touched(path) & owned.keys()
        if of_others := {table for table in touched if owned[table] != name.split("/")[0]}:
            foreign[name] = of_others
    assert foreign == ALLOWED


@pytest.mark.parametrize(
    ("source", "tables"),
    [
        ('text("SELECT FROM app_user WHERE id = :id")', {"app_user"}),
        ('Q = f"SELECT {x} FROM hold h JOIN api_key k ON true"', {"hold", "api_key"}),
        ('"DELETE FROM organization USING project"', {"organization", "project"}),
        ("from farebox.keys.models import ApiKey\nselect(ApiKey.id)", {"api_key"}),
        ("from farebox.tenants.models import User as U\nsession.get(U, 1)", {"app_user"}),
        ("from farebox.tenants.models import User\ndef f(user: User | None) -> list[User]: ...", set[str]()),
        ('"""Read from model to model."""', set[str]()),
    ],
)
def test_a_table_is_found_in_text_and_in_models(source: str, tables: set[str]) -> None:
    tree = ast.parse(source)
    assert (tables_in_text(tree) | tables_of_models(tree)) & owners().keys() == tables
