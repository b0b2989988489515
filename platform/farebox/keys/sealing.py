"""Secrets at rest: sealed with AES-256-GCM under the operator's secret key."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from farebox.core.settings import Settings, SettingsError

_NONCE_BYTES = 12
_VERSION = b"\x01"


class SecretBox:
    """Seals and unseals short secrets with a key derived from `FAREBOX_SECRET_KEY`.

    The AES key is HKDF-SHA256 of the setting (RFC 5869), so the setting may be any long text. A
    sealed value is `version (1 byte) | nonce (12) | ciphertext | tag (16)`. The label names what is
    sealed and is authenticated: a value copied into another row does not open there.
    """

    def __init__(self, secret_key: str) -> None:
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"farebox sealing v1")
        self._cipher = AESGCM(derive.derive(secret_key.encode()))

    def seal(self, secret: bytes, label: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret, _VERSION + label.encode())

    def opens(self, sealed: bytes, label: str) -> bool:
        """Whether the value was sealed under this secret."""
        try:
            self.unseal(sealed, label)
        except SettingsError:
            return False
        return True

    def unseal(self, sealed: bytes, label: str) -> bytes:
        """Raises SettingsError when the value was sealed under another secret, or altered."""
        version, nonce, body = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        with suppress(InvalidTag, ValueError):
            if version == _VERSION:
                return self._cipher.decrypt(nonce, body, version + label.encode())
        raise SettingsError(
            "FAREBOX_SECRET_KEY does not open the secrets stored in the database: it is not the one they"
            " were sealed with. Set the former one again, or run `farebox keys reseal` (docs/adr/0004)."
        )


def load_secret_box(settings: Settings) -> SecretBox:
    """The box under `settings.secret_key`; in development, under a secret made once in the data folder.

    Raises SettingsError in production without a secret.
    """
    return SecretBox(_secret(settings))


def derived_key(settings: Settings, purpose: bytes) -> bytes:
    """32 bytes for one purpose, the same on all servers; nothing about the secret can be told from them."""
    derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose)
    return derive.derive(_secret(settings).encode())


def _secret(settings: Settings) -> str:
    if settings.secret_key:
        return settings.secret_key
    if settings.production:
        raise SettingsError(
            "FAREBOX_ENV=production also needs FAREBOX_SECRET_KEY; make one with `openssl rand -hex 32`."
        )
    return _development_secret(development_secret_file(settings))


def development_secret_file(settings: Settings) -> Path:
    """Where the secret lies that development makes for itself."""
    return settings.data_dir / "secret.key"


def _development_secret(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and linked into place: a second process that starts now reads a whole secret.
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"development-{secrets.token_hex(32)}\n")
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()
