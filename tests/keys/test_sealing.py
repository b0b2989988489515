"""Secrets at rest, and where development keeps its own."""

import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.settings import Settings, SettingsError
from farebox.keys.sealing import SecretBox, load_secret_box

BOX = SecretBox("a secret key that only tests know")


@given(secret=st.binary(max_size=100), label=st.text(max_size=50))
def test_a_secret_comes_back_and_never_lies_open(secret: bytes, label: str) -> None:
    sealed = BOX.seal(secret, label)
    assert BOX.unseal(sealed, label) == secret
    assert sealed != BOX.seal(secret, label)
    assert len(secret) < 4 or secret not in sealed


@given(index=st.integers(0, 60), flip=st.integers(1, 255))
def test_an_altered_secret_does_not_open(index: int, flip: int) -> None:
    sealed = bytearray(BOX.seal(b"x" * 32, "label"))
    sealed[index] ^= flip
    with pytest.raises(SettingsError):
        BOX.unseal(bytes(sealed), "label")


@pytest.mark.parametrize("cut", [0, 1, 12, 13, 28])
def test_a_cut_secret_does_not_open(cut: int) -> None:
    with pytest.raises(SettingsError):
        BOX.unseal(BOX.seal(b"x" * 32, "label")[:cut], "label")


def test_a_secret_opens_under_its_own_label_and_key_only() -> None:
    sealed = BOX.seal(b"secret", "mine")
    with pytest.raises(SettingsError):
        BOX.unseal(sealed, "yours")
    with pytest.raises(SettingsError):
        SecretBox("some other secret key of an operator").unseal(sealed, "mine")


def test_development_makes_a_secret_once_for_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path / "new"))
    sealed = load_secret_box(settings).seal(b"secret", "label")
    path = tmp_path / "new" / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("development-")
    assert load_secret_box(settings).unseal(sealed, "label") == b"secret"
    assert [entry.name for entry in path.parent.iterdir()] == ["secret.key"]


def test_processes_that_start_together_share_one_development_secret(tmp_path: Path) -> None:
    settings, boxes, start = Settings(data=str(tmp_path)), [], threading.Barrier(8)

    def load() -> None:
        start.wait()
        boxes.append(load_secret_box(settings))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sealed = boxes[0].seal(b"secret", "label")
    assert [box.unseal(sealed, "label") for box in boxes] == [b"secret"] * 8


def test_production_demands_a_secret(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FAREBOX_SECRET_KEY"):
        load_secret_box(Settings(env="production", data=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []
