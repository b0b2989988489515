"""The headers that tell what is left, as the OpenAI API spells them."""

import pytest

from farebox.gateway.rate_limit_headers import format_duration, rate_limit_headers
from farebox.metering.quotas import Quota, Quotas


def test_six_headers() -> None:
    assert dict(rate_limit_headers(Quotas(requests=Quota(20, 19), tokens=Quota(6000, 5970.5)))) == {
        b"x-ratelimit-limit-requests": b"20",
        b"x-ratelimit-remaining-requests": b"19",
        b"x-ratelimit-reset-requests": b"3s",
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"5970",
        b"x-ratelimit-reset-tokens": b"295ms",
    }


def test_what_has_no_limit_has_no_headers() -> None:
    assert rate_limit_headers(Quotas()) == []
    assert len(rate_limit_headers(Quotas(tokens=Quota(10, 10)))) == 3


def test_an_overdrawn_or_empty_bucket_has_nothing_left() -> None:
    headers = dict(rate_limit_headers(Quotas(requests=Quota(0, 0), tokens=Quota(60, -30))))
    assert headers[b"x-ratelimit-remaining-requests"] == headers[b"x-ratelimit-remaining-tokens"] == b"0"
    assert headers[b"x-ratelimit-reset-requests"] == b"0ms"
    assert headers[b"x-ratelimit-reset-tokens"] == b"1m30s"


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.02, b"20ms"), (1.5, b"1.5s"), (3, b"3s"), (60, b"1m0s"), (372.4, b"6m12s")]
)
def test_durations_are_written_as_openai_writes_them(seconds: float, written: bytes) -> None:
    assert format_duration(seconds) == written
