"""The map in docs/architecture.md is of the house as it stands."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.pages import links

PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = {"farebox": ROOT / "platform" / "farebox", "farebox_engine": ROOT / "engine" / "farebox_engine"}


def layers(package: str) -> list[str]:
    """The order that import-linter holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = (each["layers"] for each in contracts if each.get("containers") == [package])
    return list(found)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_layers_are_those_that_are_checked(package: str) -> None:
    assert "```\n{}\n```".format("\n".join(layers(package))) in PAGE.read_text()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_on_the_map(package: str) -> None:
    linked = {(PAGE.parent / link.partition("#")[0]).resolve() for link in links(PAGE)}
    rooms = {name for layer in layers(package) for name in re.findall(r"\w+", layer)}
    assert len(rooms) >= 10
    assert {name for name in rooms if not _places(PACKAGES[package], name) & linked} == set()


def test_every_room_of_the_gateway_is_on_the_map() -> None:
    linked = {(PAGE.parent / link).resolve() for link in links(PAGE)}
    rooms = [each for each in (PACKAGES["farebox"] / "gateway").iterdir() if (each / "__init__.py").exists()]
    assert len(rooms) >= 5
    assert set(rooms) <= linked


def _places(package: Path, name: str) -> set[Path]:
    """A room is a folder or a file."""
    return {package / name, package / f"{name}.py"}
