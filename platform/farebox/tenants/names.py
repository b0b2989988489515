"""What people type: names, e-mail addresses, passwords, brought into one form or refused."""

import re
import unicodedata

from farebox.core.errors import BadRequest

MAX_NAME_CHARACTERS = 100
MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 128

# Deliberately plain: RFC 5322 allows comments and quotes that no mailbox uses. ASCII only, since
# Python and Postgres lower-case other letters differently and one mailbox must stay one account.
_EMAIL = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)


def clean_email(typed: str) -> str:
    """The address trimmed and in lower case. Raises BadRequest when it is none."""
    email = typed.strip().lower()
    if len(email) > 254 or not _EMAIL.fullmatch(email):
        raise BadRequest("This is not an e-mail address.", code="invalid_email", param="email")
    return email


def clean_name(typed: str, param: str = "name") -> str:
    """A name of 1 to 100 printable characters, trimmed. Raises BadRequest otherwise."""
    name = unicodedata.normalize("NFC", typed).strip()
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise BadRequest(
            f"`{param}` must have 1 to {MAX_NAME_CHARACTERS} printable characters.",
            code="invalid_name",
            param=param,
        )
    return name


def clean_password(typed: str) -> str:
    """The password in Unicode form NFKC, so that every keyboard spells it alike (NIST SP 800-63B).

    Raises BadRequest unless it has 12 to 128 characters.
    """
    password = unicodedata.normalize("NFKC", typed)
    if not MIN_PASSWORD_CHARACTERS <= len(password) <= MAX_PASSWORD_CHARACTERS or not _encodable(password):
        raise BadRequest(
            f"A password must have {MIN_PASSWORD_CHARACTERS} to {MAX_PASSWORD_CHARACTERS} characters.",
            code="invalid_password",
            param="password",
        )
    return password


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
