"""Settings, read once at start from `FAREBOX_*` and an optional TOML file, then frozen."""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from farebox.core.validation import Fault, fault_of

PREFIX = "FAREBOX_"
LARGEST_AMOUNT = 1_000_000  # of a top-up, a grant, a plan's fee

Limit = Annotated[int, Meta(ge=0, le=2**53)]
Language = Literal["en", "zh-Hans"]
UnitPrice = Annotated[str, Meta(pattern=r"^[0-9]{1,7}(\.[0-9]{1,6})?$")]


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """Who sells, as the settings `issuer_…` name it; `address` in lines."""

    name: str | None
    address: tuple[str, ...]
    country: str | None
    tax_id: str | None
    email: str | None
    payment: str | None
    code: str | None

    @property
    def missing(self) -> tuple[str, ...]:
        """The settings without which no invoice can be numbered."""
        return tuple(
            f"{PREFIX}ISSUER_{name.upper()}" for name in ("name", "address") if not getattr(self, name)
        )


class SettingsError(Exception):
    """A setting is unknown, missing or malformed; the message says how to mend it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting, its type and its default. `FAREBOX_PORT=9000` sets `port`.

    Durations are in seconds. In development, `secret_key` may be absent: one is made in `data`.
    """

    env: Literal["development", "production"] = "development"
    data: str = ".farebox"
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    base_url: str | None = None
    database_url: str | None = None
    database_admin_url: str | None = None
    database_pool_size: Annotated[int, Meta(ge=1, le=1000)] = 8
    secret_key: str | None = None
    smtp_url: str | None = None
    mail_from: str = "farebox@localhost"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "USD"
    default_input_price: UnitPrice = "0.50"
    default_cached_input_price: UnitPrice = "0.25"
    default_output_price: UnitPrice = "1.50"
    default_requests_per_minute: Limit = 600
    default_tokens_per_minute: Limit = 200_000
    default_concurrent_requests: Limit = 64
    pending_requests_per_key: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    refused_requests_per_minute: Limit = 600
    max_requests_per_minute: Limit = 60_000
    max_tokens_per_minute: Limit = 20_000_000
    max_concurrent_requests: Limit = 1_000
    max_projects: Limit = 100
    max_keys: Limit = 500
    default_answer_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 4096
    receipts: bool = True
    sign_up: Literal["open", "closed"] = "open"
    sign_up_credit: Annotated[str, Meta(pattern=r"^[0-9]{1,7}(\.[0-9]{1,3})?$")] | None = None
    sign_up_credit_days: Annotated[int, Meta(ge=1, le=3660)] = 30
    demo_model: bool = True
    engine_threads: Annotated[int, Meta(ge=1, le=1024)] | None = None
    engine_speculative_tokens: Annotated[int, Meta(ge=0, le=64)] = 8
    engine_step_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    engine_cache_bytes: Annotated[int, Meta(ge=1 << 20)] | None = None
    engine_device: Literal["auto", "cpu", "cuda"] = "auto"
    engine_quantization: Literal["none", "int8", "fp8"] = "none"
    stalled_reader_seconds: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    metrics_address: str | None = None
    trusted_proxies: str = "127.0.0.1"
    cors_origins: str | None = None
    issuer_name: str | None = None
    issuer_address: str | None = None
    issuer_country: Annotated[str, Meta(pattern="^[A-Z]{2}$")] | None = None
    issuer_tax_id: str | None = None
    issuer_email: str | None = None
    issuer_payment: str | None = None
    issuer_code: Annotated[str, Meta(pattern="^[A-Z0-9]{1,12}$")] | None = None
    invoice_language: Language = "en"
    invoice_due_days: Annotated[int, Meta(ge=0, le=365)] = 30
    invoice_grace_seconds: Annotated[int, Meta(ge=0, le=2_678_400)] = 3600
    provider_name: Annotated[str, Meta(min_length=1, max_length=200)] = "Farebox"
    device_hour_cost: UnitPrice = "0"
    exports_folder: str | None = None

    @property
    def issuer(self) -> Issuer:
        """Who sells: all that invoices say of it."""
        lines = (line.strip() for line in (self.issuer_address or "").replace("\n", ";").split(";"))
        return Issuer(
            name=self.issuer_name,
            address=tuple(filter(None, lines)),
            country=self.issuer_country,
            tax_id=self.issuer_tax_id,
            email=self.issuer_email,
            payment=self.issuer_payment,
            code=self.issuer_code,
        )

    stripe_api_key: str | None = None
    stripe_webhook_secret: str | None = None
    stripe_snapshot_secret: str | None = None
    stripe_base_url: str | None = None
    stripe_tax: bool = False
    smallest_top_up: UnitPrice = "5"
    largest_top_up: UnitPrice = "10000"

    @property
    def public_url(self) -> str:
        """The address clients use, without a trailing slash; also the `iss` of every token."""
        if self.base_url:
            return self.base_url.rstrip("/")
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104  compared, not bound
        return f"http://{host}:{self.port}"

    @property
    def metrics_place(self) -> tuple[str, int] | None:
        """Host and port of `metrics_address`; None without one."""
        return _place(self.metrics_address) if self.metrics_address is not None else None

    @property
    def data_dir(self) -> Path:
        """Where the embedded Postgres, the settlement spool and development secrets live."""
        return Path(self.data).resolve()

    @property
    def production(self) -> bool:
        return self.env == "production"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read settings; environment beats the TOML file named by `FAREBOX_CONFIG`.

    Raises SettingsError on an unknown name, a bad value, or a production start without its secrets.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    if path := environ.get(f"{PREFIX}CONFIG"):
        values |= _read_toml(Path(path))
    for name, text in environ.items():
        if name.startswith(PREFIX) and name != f"{PREFIX}CONFIG":
            values[name.removeprefix(PREFIX).lower()] = text
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{_explain(fault_of(error))} See `docs/operating.md` for the names.") from None
    _check_ranges(settings)
    _check_payments(settings)
    if settings.production:
        _check_production(settings)
    return settings


def _explain(fault: Fault) -> str:
    """What is wrong, with the name that the operator typed."""
    if fault.kind == "unknown":
        return f"There is no setting {PREFIX}{fault.path.upper()}."
    name = f"{PREFIX}{fault.path.upper()}" if fault.path else "A setting"
    return f"{name} is wrong: {fault.reason}."


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"FAREBOX_CONFIG names {path}, which cannot be read: {error}.") from None


def _check_ranges(settings: Settings) -> None:
    for name in ("database_url", "database_admin_url"):
        if (url := getattr(settings, name)) and not url.startswith(("postgresql://", "postgres://")):
            raise SettingsError(f"{PREFIX}{name.upper()} must start with postgresql://.")
    if settings.secret_key is not None and len(settings.secret_key) < 32:
        raise SettingsError(
            "FAREBOX_SECRET_KEY is shorter than 32 characters; make one with `openssl rand -hex 32`."
        )
    if settings.base_url is not None and not _is_address(settings.base_url):
        raise SettingsError(
            "FAREBOX_BASE_URL is not an address such as https://farebox.example or http://10.0.0.7:8000."
        )
    if settings.metrics_address is not None and settings.metrics_place is None:
        raise SettingsError("FAREBOX_METRICS_ADDRESS is not an address such as 127.0.0.1:9100 or [::1]:9100.")
    for origin in filter(None, (each.strip() for each in (settings.cors_origins or "").split(","))):
        if origin != "*" and not (_is_address(origin) and urlsplit(origin).path in ("", "/")):
            raise SettingsError(
                f"FAREBOX_CORS_ORIGINS names {origin!r}; list origins such as https://app.example, or `*`."
            )
    for proxy in filter(None, (each.strip() for each in settings.trusted_proxies.split(","))):
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            # uvicorn would take `*` as leave to believe whatever address a client claims to have,
            # which ends the back-off against guessing, and any other word as nobody.
            raise SettingsError(
                f"FAREBOX_TRUSTED_PROXIES names {proxy!r}; list the addresses or networks of your"
                " proxies, such as 10.0.0.0/8,192.168.1.7."
            ) from None


def comma_separated(value: str) -> list[str]:
    """What a setting lists: of several signing secrets, say, while one follows another."""
    return [each.strip() for each in value.split(",") if each.strip()]


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _place(address: str) -> tuple[str, int] | None:
    """The host and the port of `host:port`; None for anything else."""
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    return (host, port) if host and port is not None and parts.netloc == address else None


def _check_payments(settings: Settings) -> None:
    key = settings.stripe_api_key
    if key is not None and not key.startswith(("sk_test_", "sk_live_", "rk_test_", "rk_live_")):
        raise SettingsError("FAREBOX_STRIPE_API_KEY is no secret or restricted key: sk_… or rk_….")
    for name in ("stripe_webhook_secret", "stripe_snapshot_secret"):
        secrets = getattr(settings, name)
        if secrets is not None and not all(each.startswith("whsec_") for each in comma_separated(secrets)):
            raise SettingsError(
                f"{PREFIX}{name.upper()} is no signing secret of an event destination: whsec_…."
            )
        if secrets is not None and key is None:
            raise SettingsError(f"{PREFIX}{name.upper()} is of no use without FAREBOX_STRIPE_API_KEY.")
    if settings.stripe_base_url is not None:
        if not _is_address(settings.stripe_base_url):
            raise SettingsError("FAREBOX_STRIPE_BASE_URL is not an address such as http://127.0.0.1:12111.")
        if key is not None and "_live_" in key:
            raise SettingsError(
                "FAREBOX_STRIPE_BASE_URL is for a stand-in, and a live key is for Stripe alone: unset one."
            )
    if settings.production and key is not None and settings.stripe_webhook_secret is None:
        raise SettingsError(
            "FAREBOX_STRIPE_API_KEY also needs FAREBOX_STRIPE_WEBHOOK_SECRET: else payments are seen late."
        )
    smallest, largest = Decimal(settings.smallest_top_up), Decimal(settings.largest_top_up)
    if not 0 < smallest <= largest <= LARGEST_AMOUNT:
        raise SettingsError(
            "FAREBOX_SMALLEST_TOP_UP must be above 0 and not above FAREBOX_LARGEST_TOP_UP, which is at most"
            f" {LARGEST_AMOUNT}."
        )


def _check_production(settings: Settings) -> None:
    missing = [
        f"FAREBOX_{name.upper()} ({why})"
        for name, why in (
            ("secret_key", "it encrypts the signing keys; make one with `openssl rand -hex 32`"),
            ("database_url", "the embedded Postgres is for development"),
            ("base_url", "the https address that clients use"),
        )
        if not getattr(settings, name)
    ]
    if missing:
        raise SettingsError("FAREBOX_ENV=production also needs " + ", ".join(missing) + ".")
    if settings.base_url and not settings.base_url.startswith("https://"):
        raise SettingsError("FAREBOX_BASE_URL must start with https:// in production: cookies are Secure.")
    if settings.secret_key and settings.secret_key.startswith("development-"):
        raise SettingsError(
            "FAREBOX_SECRET_KEY is a development secret; make one with `openssl rand -hex 32`."
        )
