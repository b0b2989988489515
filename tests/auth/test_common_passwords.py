"""What is refused as a password that everybody tries first, and what is not."""

import pytest

from farebox.auth.common_passwords import is_common


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "Password1234!",
        "P@ssw0rd2026",
        "passwordpassword",
        "mypassword123",
        "123456789012",
        "987654321098",
        "111111111111",
        "121212121212",
        "qwertyuiop12",
        "qwertyuiopas",
        "1q2w3e4r5t6y",
        "iloveyou1234",
        "welcome12345",
        "letmein12345",
        "admin123admin",
        "abcdefghijkl",
        "changeme2026",
        "farebox12345",
        "!!!!!!!!!!!!",
        "trustno1trustno1",
    ],
)
def test_common(password: str) -> None:
    assert is_common(password)


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "another long password",
        "a brand new password",
        "ferry to the north",
        "hK3vbQ9xTz2L",
        "4815162342108",
        "пароль и ещё кое-что",
        "密码很长很长很长很长很长",
        "password of my grandmother",
    ],
)
def test_not_common(password: str) -> None:
    assert not is_common(password)
