"""Settings: read once, bounded, and all of them in the manual."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from farebox.core.settings import Settings, SettingsError, load_settings
from tests.conftest import ROOT

ROW = re.compile(r"\| `(?P<name>FAREBOX_\w+)` \| (?P<default>—|`[^`]*`) \| (?P<meaning>.+) \|")


def documented() -> Iterator[tuple[str, str, str]]:
    section = (ROOT / "docs" / "operating.md").read_text().split("## ")[1]
    for line in section.splitlines():
        if line.startswith("| `"):
            row = ROW.fullmatch(line)
            assert row is not None, line
            yield row["name"], row["default"].strip("`"), row["meaning"]


def as_typed(default: object) -> str:
    """A default as an operator would type it."""
    if default is None:
        return "—"
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_the_manual_names_every_setting_with_its_default_and_meaning() -> None:
    expected = [
        (f"FAREBOX_{field.name.upper()}", as_typed(field.default))
        for field in msgspec.structs.fields(Settings)
    ]
    assert [(name, default) for name, default, _ in documented()] == expected
    for name, _, meaning in documented():
        assert 10 <= len(meaning) <= 100, name


def test_the_documented_defaults_are_good_settings() -> None:
    environ = {name: default for name, default, _ in documented() if default != "—"}
    assert load_settings(environ) == Settings()


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "farebox.toml"
    file.write_text('port = 9000\nhost = "::1"\ndemo_model = false\nstalled_reader_seconds = 5\n')
    settings = load_settings({"FAREBOX_CONFIG": str(file), "FAREBOX_PORT": "9001", "HOME": "/"})
    assert (settings.port, settings.host, settings.demo_model) == (9001, "::1", False)
    assert settings.stalled_reader_seconds == 5.0


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("[::1]:0", ("::1", 0)),
        ("metrics.internal:1", ("metrics.internal", 1)),
    ],
)
def test_the_address_of_metrics_is_a_host_and_a_port(address: str, place: tuple[str, int]) -> None:
    assert load_settings({"FAREBOX_METRICS_ADDRESS": address}).metrics_place == place


@pytest.mark.parametrize("text", ["port = ", "colour = 1", "port = 70000"])
def test_a_bad_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "farebox.toml").write_text(text)
    with pytest.raises(SettingsError, match="FAREBOX_"):
        load_settings({"FAREBOX_CONFIG": str(tmp_path / "farebox.toml")})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", ""),
        ("DATABASE_POOL_SIZE", "0"),
        ("ENGINE_THREADS", "0"),
        ("ENGINE_SPECULATIVE_TOKENS", "-1"),
        ("ENGINE_DEVICE", "tpu"),
        ("ENV", "staging"),
        ("LOG_LEVEL", "LOUD"),
        ("CURRENCY", "usd"),
        ("DEMO_MODEL", "perhaps"),
        ("DEFAULT_OUTPUT_PRICE", "1.0000001"),
        ("DEFAULT_OUTPUT_PRICE", "free"),
        ("DEFAULT_TOKENS_PER_MINUTE", "-1"),
        ("STALLED_READER_SECONDS", "0"),
        ("STALLED_READER_SECONDS", "nan"),
        ("SECRET_KEY", "x" * 31),
        ("DATABASE_URL", "sqlite:///farebox.db"),
        ("METRICS_ADDRESS", ""),
        ("METRICS_ADDRESS", "9100"),
        ("METRICS_ADDRESS", ":9100"),
        ("METRICS_ADDRESS", "127.0.0.1"),
        ("METRICS_ADDRESS", "127.0.0.1:70000"),
        ("METRICS_ADDRESS", "127.0.0.1:9100/metrics"),
        ("METRICS_ADDRESS", "http://127.0.0.1:9100"),
        ("METRICS_ADDRESS", "::1:9100"),
    ],
)
def test_a_bad_value_is_refused_under_its_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"FAREBOX_{name} ") as failure:
        load_settings({f"FAREBOX_{name}": value})
    assert str(failure.value).endswith(".")


@pytest.mark.parametrize("proxies", ["*", "127.0.0.1,*", "load-balancer", "10.0.0.0/33", "10.0.0.1/8"])
def test_a_proxy_that_is_anybody_is_none(proxies: str) -> None:
    """With `*`, uvicorn takes the first address that the header names: the client's own choice."""
    with pytest.raises(SettingsError, match="FAREBOX_TRUSTED_PROXIES"):
        load_settings({"FAREBOX_TRUSTED_PROXIES": proxies})


@pytest.mark.parametrize("proxies", ["", "127.0.0.1", "10.0.0.0/8, 192.168.1.7", "::1,fd00::/8"])
def test_proxies_are_addresses_or_networks(proxies: str) -> None:
    assert load_settings({"FAREBOX_TRUSTED_PROXIES": proxies}).trusted_proxies == proxies


@pytest.mark.parametrize("url", ["farebox.example", "https://", "https://x:99999", "ftp://x", "https://x:y"])
def test_a_public_address_that_is_none_is_refused(url: str) -> None:
    """Else every form would be, since no browser could have such an Origin."""
    with pytest.raises(SettingsError, match="FAREBOX_BASE_URL"):
        load_settings({"FAREBOX_BASE_URL": url})
