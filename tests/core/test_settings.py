"""Settings that would open a door are refused at the start, in words."""

import pytest

from farebox.core.settings import SettingsError, load_settings


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
