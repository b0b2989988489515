"""`farebox org ceilings`: shown, set, taken back, refused."""

from typing import Any

import pytest

from farebox.core.ids import external, new_id
from farebox.core.settings import Settings
from tests.cli.commands import Farebox


def ceilings(shop: Farebox, organization: str, *options: str) -> dict[str, Any]:
    return dict(shop.json("org", "ceilings", organization, *options))


@pytest.fixture
def customer(shop: Farebox) -> str:
    return str(shop.json("org", "create", "Bounded")["organization_id"])


def test_without_options_it_shows_the_settings_and_changes_nothing(shop: Farebox, customer: str) -> None:
    shown = ceilings(shop, customer)
    assert (shown["id"], shown["lowered"]) == (customer, [])
    assert shown["ceilings"] == {
        name: {"most": getattr(Settings(), name, None), "own": False}
        for name in (
            "max_requests_per_minute",
            "max_tokens_per_minute",
            "max_concurrent_requests",
            "max_projects",
            "max_keys",
            "allowed_models",
        )
    }
    assert ceilings(shop.set(max_keys="3"), customer)["ceilings"]["max_keys"] == {"most": 3, "own": False}


def test_what_is_set_holds_until_it_is_taken_back(shop: Farebox, customer: str) -> None:
    options = ("--requests-per-minute", "300", "--keys", "0", "--models", "tiny, other")
    done = ceilings(shop, customer, *options)
    assert done["ceilings"]["max_requests_per_minute"] == {"most": 300, "own": True}
    assert done["ceilings"]["max_keys"] == {"most": 0, "own": True}
    assert done["ceilings"]["allowed_models"] == {"most": ["other", "tiny"], "own": True}
    assert done["lowered"] == [{"id": customer, "limit": "requests_per_minute", "before": None, "now": 300}]
    assert ceilings(shop, customer)["ceilings"] == done["ceilings"]
    back = ceilings(shop, customer, "--keys", "default", "--models", "all")["ceilings"]
    assert back["max_keys"] == {"most": Settings().max_keys, "own": False}
    assert back["allowed_models"] == {"most": None, "own": False}
    assert back["max_requests_per_minute"] == {"most": 300, "own": True}


def test_people_read_what_holds_and_what_was_lowered(shop: Farebox, customer: str) -> None:
    key = shop.json("key", "create", "--organization", customer, "--model", "x")["id"]
    said = shop.run("org", "ceilings", customer, "--tokens-per-minute", "5", "--models", "tiny").out
    assert f"Lowered: tokens_per_minute of {customer}, from no limit to 5." in said
    assert f"Lowered: models of {key}, from x to none." in said
    rows = {
        line.split()[0]: line.split()[1:] for line in said.splitlines() if line.startswith(("max", "all"))
    }
    assert rows["max_tokens_per_minute"] == ["5", "this", "organization"]
    assert rows["max_keys"] == [str(Settings().max_keys), "settings"]
    assert rows["allowed_models"] == ["tiny", "this", "organization"]
    (listed,) = shop.json("key", "list", "--organization", customer)
    assert listed["models"] == "none", "and not all, as of a key without a list"


@pytest.mark.parametrize("typed", ["-1", "1e3", "2000000001", "none", "١", ""])
def test_a_ceiling_that_is_none_is_refused(shop: Farebox, customer: str, typed: str) -> None:
    assert "--projects" in shop.run("org", "ceilings", customer, f"--projects={typed}").refusal
    assert not any(each["own"] for each in ceilings(shop, customer)["ceilings"].values())


def test_nobodys_ceilings_are_refused(shop: Farebox) -> None:
    stranger = external("org", new_id())
    assert "No such organization" in shop.run("org", "ceilings", stranger).refusal
    assert "No such organization" in shop.run("org", "ceilings", stranger, "--keys", "1").refusal
