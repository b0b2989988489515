"""Base64url: one text for every string of bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core import base64url


@given(st.binary())
def test_what_is_written_is_read_back(data: bytes) -> None:
    text = base64url.encode(data)
    assert base64url.decode(text) == data
    assert not set(text) & set("+/=\n")


def test_it_is_written_as_jose_writes_it() -> None:
    # RFC 7515, appendix C.
    assert base64url.encode(bytes([3, 236, 255, 224, 193])) == "A-z_4ME"


@pytest.mark.parametrize("text", ["A", "AB", "QUI=", "QU I", "QU+/", "Q\nUI", "é", "QUI\0"])
def test_no_other_text_means_the_same(text: str) -> None:
    with pytest.raises(ValueError, match="not base64url"):
        base64url.decode(text)
