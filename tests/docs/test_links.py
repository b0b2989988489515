"""What the manual names exists: pages, anchors, files, modules, commands with their options, settings."""

import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from farebox.cli import farebox
from farebox.core.settings import PREFIX, Settings
from farebox_engine import cli as engine
from tests.conftest import ROOT
from tests.docs.pages import ALL_PAGES, anchors, code, code_spans, links, name

# A page may name a file as those do who know the part it speaks of.
ROOMS = (ROOT, ROOT / "platform/farebox", ROOT / "engine/farebox_engine", ROOT / "docs")
FILE = re.compile(r"(?!/)[\w./-]+\.(?:py|sql|md|html|css|js)")
MODULE = re.compile(r"(?<![\w./@-])(?:farebox|farebox_engine|tests|migrations)(?:\.\w+)+")
SETTING = re.compile(rf"\b{PREFIX}[A-Z_]+\b")


def check_links(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path if path else page).resolve()
        assert target.exists(), link
        assert target.is_relative_to(ROOT) or not path, link
        assert not anchor or anchor in anchors(target), link


def check_files(page: Path) -> None:
    for span in code_spans(page):
        if FILE.fullmatch(span):
            known = any((room / span).is_file() for room in (*ROOMS, page.parent))
            assert known if "/" in span else span in _file_names(), span


def check_modules(page: Path) -> None:
    for line in code(page):
        for module in MODULE.findall(line):
            assert _is_module(module.split(".")), module


def check_make(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in code(page):
        for variables, target in re.findall(r"(?:^|\s)((?:[A-Z_]+=\S+ )*)make ([a-z-]+)", line):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), line
            for variable in re.findall(r"([A-Z_]+)=", variables):
                assert variable.startswith(PREFIX) or f"\n{variable} ?=" in makefile, line


def check_settings(page: Path) -> None:
    known = {PREFIX + field.name.upper() for field in msgspec.structs.fields(Settings)} | _environment()
    for setting in SETTING.findall(page.read_text()):
        assert setting in known, setting


def check_commands(page: Path) -> None:
    for words in _calls(page, "farebox"):
        called = " ".join(["farebox", *words])
        command: click.Command | None = farebox
        while isinstance(command, click.Group) and words and _is_word(words[0]):
            command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None, called
        known = {option for parameter in command.params for option in parameter.opts}
        assert _options(words) <= known | {"--help"}, called


def check_engine_commands(page: Path) -> None:
    for words in _calls(page, "farebox-engine"):
        assert _options(words) <= _options_told(engine.main, words), words


def check_benchmarks(page: Path) -> None:
    for line in code(page):
        for module, rest in re.findall(r"-m (farebox_engine\.bench\b[\w.]*)([^|`]*)", line):
            words = rest.split()
            bench = importlib.import_module(f"{module}.__main__").main
            assert _options(words) <= _options_told(bench, words), line


CHECKS = (
    check_links,
    check_files,
    check_modules,
    check_make,
    check_settings,
    check_commands,
    check_engine_commands,
    check_benchmarks,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("page", ALL_PAGES, ids=name)
def test_what_a_page_names_exists(page: Path, check: Callable[[Path], None]) -> None:
    check(page)


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("[one](two.md)", check_links),
        ("# Here\n[one](#there)", check_links),
        ("![one](two.png)", check_links),
        ("`metering/nothing.py`", check_files),
        ("`nothing.sql`", check_files),
        ("`farebox.metering.nothing`", check_modules),
        ("```\npython -m tests.nothing --one\n```", check_modules),
        ("`make nothing`", check_make),
        ("```\nHARBOUR=1 make run\n```", check_make),
        ("| `FAREBOX_NOTHING` | — |", check_settings),
        ("`farebox model nothing`", check_commands),
        ("```\nFAREBOX_PORT=1 .venv/bin/farebox model add a \\\n  --nothing b\n```", check_commands),
        ("`farebox-engine nothing`", check_engine_commands),
        ("`farebox-engine train --nothing`", check_engine_commands),
        ("`python -m farebox_engine.bench gpu --nothing`", check_benchmarks),
    ],
)
def test_what_does_not_exist_is_found(text: str, check: Callable[[Path], None], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{text}\n")
    with pytest.raises(AssertionError):
        check(page)


def test_every_page_can_be_reached() -> None:
    reached, ways = {ROOT / "README.md"}, [ROOT / "README.md"]
    while ways:
        page = ways.pop()
        # A folder shows what is in it.
        found = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        pages = {each for path in found for each in (path.glob("*.md") if path.is_dir() else [path])}
        ways += [each for each in pages - reached if each.suffix == ".md"]
        reached |= pages
    assert set(ALL_PAGES) <= reached


@cache
def _file_names() -> frozenset[str]:
    folders = ("platform", "engine", "migrations", "tests", "docs")
    return frozenset(path.name for folder in folders for path in (ROOT / folder).rglob("*.*"))


def _is_module(parts: list[str]) -> bool:
    """Whether they name a module, or something that a module's text names."""
    for home in (ROOT / "platform", ROOT / "engine", ROOT):
        path, holder = home.joinpath(*parts), home.joinpath(*parts[:-1])
        if path.is_dir() or path.with_suffix(".py").is_file():
            return True
        for file in (holder.with_suffix(".py"), holder / "__init__.py"):
            if file.is_file() and re.search(rf"\b{parts[-1]}\b", file.read_text()):
                return True
    return False


@cache
def _environment() -> frozenset[str]:
    """What the code reads from the environment besides the settings."""
    sources = [*(ROOT / "platform").rglob("*.py"), *(ROOT / "engine").rglob("*.py")]
    return frozenset(each for source in sources for each in SETTING.findall(source.read_text()))


def _calls(page: Path, program: str) -> Iterator[list[str]]:
    """The words after a program's name, wherever a line of code begins with it."""
    begins = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?{program}(?: (.*))?")
    for line in code(page):
        if call := begins.fullmatch(line.strip()):
            yield shlex.split(call[1] or "", comments=True)


def _is_word(text: str) -> bool:
    return re.fullmatch("[a-z][a-z-]*", text) is not None


def _options(words: list[str]) -> set[str]:
    return {option[0] for word in words if (option := re.match(r"--[a-z-]+", word))}


def _options_told(main: Callable[[list[str]], Any], words: list[str]) -> set[str]:
    """The options that the help of a command lists; the first of the words may name one."""
    told = StringIO()
    with redirect_stdout(told), pytest.raises(SystemExit) as ended:
        main([*filter(_is_word, words[:1]), "--help"])
    assert ended.value.code == 0, words
    return set(re.findall(r"--[a-z-]+", told.getvalue()))
