"""What people type, brought into one form or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.errors import BadRequest
from farebox.tenants.names import clean_email, clean_name, clean_password


@pytest.mark.parametrize(
    ("typed", "clean"),
    [
        (" Ada@Example.COM\n", "ada@example.com"),
        ("o'brien+farebox@mail.example.co.uk", "o'brien+farebox@mail.example.co.uk"),
        ("dev@localhost", "dev@localhost"),
    ],
)
def test_an_address_has_one_form(typed: str, clean: str) -> None:
    assert clean_email(typed) == clean


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@@example.com",
        "ada@example..com",
        "ada@-example.com",
        "ada lovelace@example.com",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada\x00@example.com",
        "İda@example.com",
        "ada@exämple.com",
        "a" * 65 + "@example.com",
        "ada@" + "a." * 130 + "com",
        "ada@example.com,eve@example.com",
    ],
    ids=repr,
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        clean_email(typed)
    assert refusal.value.param == "email"


@given(st.text(max_size=300))
def test_text_never_gets_past_half_clean(typed: str) -> None:
    """Whatever comes through is stable, storable in Postgres and encodable."""
    for clean in (clean_email, clean_name, clean_password):
        try:
            text = clean(typed)
        except BadRequest:
            continue
        assert clean(text) == text
        text.encode()
        assert clean is clean_password or "\x00" not in text


@pytest.mark.parametrize(
    "typed", ["x" * 11, "x" * 129, "", "x" * 12 + "\ud800"], ids=["11", "129", "0", "surrogate"]
)
def test_a_password_out_of_bounds_is_refused(typed: str) -> None:
    with pytest.raises(BadRequest):
        clean_password(typed)


@pytest.mark.parametrize("length", [12, 128])
def test_a_password_within_bounds_is_kept(length: int) -> None:
    assert clean_password("x" * length) == "x" * length


def test_keyboards_that_spell_alike_agree() -> None:
    assert clean_password("cafe\u0301 au lait!") == clean_password("caf\u00e9 au lait!")
