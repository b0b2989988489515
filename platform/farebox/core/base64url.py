"""Base64url without padding, as JOSE writes it (RFC 7515, section 2)."""

import base64


def encode(data: bytes) -> str:
    """The text of `data`: letters, digits, `-` and `_`."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of what `encode` wrote. Raises ValueError for any other text.

    Python's own decoder skips foreign characters and stray bits: many texts would mean the same.
    """
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        data = b""
    if encode(data) != text:
        raise ValueError("This is not base64url as it is written without padding.")
    return data
