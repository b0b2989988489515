"""What is left of the rates after an admission's verdict, as data: how it is told is the gateway's."""

from collections.abc import Mapping
from typing import Any

import msgspec


class Quota(msgspec.Struct, frozen=True):
    """The tightest bucket that applies: how much it holds, and how much is left in it.

    It fills evenly, from empty to `limit` in a minute. `left` may have a fraction, and be below 0.
    """

    limit: int
    left: float


class Quotas(msgspec.Struct, frozen=True):
    """The buckets of requests and of tokens; None where no limit applies."""

    requests: Quota | None = None
    tokens: Quota | None = None


def read_quotas(row: Mapping[str, Any]) -> Quotas:
    """Those in a row of `farebox_admit`."""
    return Quotas(_quota(row["rpm"], row["rpm_left"]), _quota(row["tpm"], row["tpm_left"]))


def _quota(limit: int | None, left: float) -> Quota | None:
    return None if limit is None else Quota(limit, left)
