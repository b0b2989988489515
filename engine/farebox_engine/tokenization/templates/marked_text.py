"""Text that tells a user's characters from a template's, and that a template reads as if it were plain."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, SupportsIndex


class Marking:
    """The stand-ins of one rendering: characters that replace some of a user's, one for one.

    What goes through a template keeps them, whatever the template does to it; so they tell afterwards
    who wrote a character.
    """

    def __init__(self, stand_ins: Mapping[str, str]) -> None:
        """`stand_ins` maps characters to such as occur nowhere in what is marked."""
        self._stand_ins = dict(stand_ins)
        # Letters change with their case, which their stand-ins do not.
        self.has_letters = any(map(str.isalpha, stand_ins))
        choices = "".join(map(re.escape, stand_ins.values()))
        self._any = re.compile(f"[{choices}]" if choices else r"(?!)")

    def mark(self, value: object) -> object:
        """`value`, made of dicts, lists and scalars, with every string a user's."""
        if isinstance(value, str):
            return self.text(self.users(value))
        if isinstance(value, Mapping):
            return {self.mark(key): self.mark(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.mark(item) for item in value]
        return value

    def users(self, text: str) -> str:
        """`text` with stand-ins in all places."""
        for original, stand_in in self._stand_ins.items():
            text = text.replace(original, stand_in)
        return text

    def text(self, text: str) -> str:
        """`text`, which may hold stand-ins, for a template to read."""
        return MarkedText(text, self) if self._any.search(text) else text

    def plain(self, text: str) -> str:
        """`text` with the characters that stand-ins stand for."""
        text = str.__getitem__(text, slice(None))  # what replaces in a marked text is another method
        for original, stand_in in self._stand_ins.items():
            text = text.replace(stand_in, original)
        return text


class MarkedText(str):
    """A string that holds stand-ins, and compares, is searched and is cut as what they stand for.

    A stand-in takes the place of one character, so that places in both texts are the same.
    """

    __slots__ = ("_known", "_marking")

    def __new__(cls, text: str, marking: Marking) -> MarkedText:
        made = super().__new__(cls, text)
        made._marking = marking
        made._known = None
        return made

    _marking: Marking
    _known: str | None

    @property
    def _plain(self) -> str:
        if self._known is None:
            self._known = self._marking.plain(self)
        return self._known

    def _cut(self, start: int, stop: int) -> str:
        return self._marking.text(str.__getitem__(self, slice(start, stop)))

    def _pieces(self, pieces: Iterable[str], between: str | None) -> list[str]:
        """Those of this text that are `pieces` of the plain one; white space is `between` where None."""
        found, place = [], 0
        for piece in pieces:
            start = self._plain.find(piece, place) if between is None else place
            found.append(self._cut(start, start + len(piece)))
            place = start + len(piece) + len(between or "")
        return found

    def __str__(self) -> str:
        return self

    def __repr__(self) -> str:
        return self._marking.users(repr(self._plain))

    def __hash__(self) -> int:
        return hash(self._plain)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._plain == _plain(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: str) -> bool:
        return bool(self._plain < _plain(other))

    def __le__(self, other: str) -> bool:
        return bool(self._plain <= _plain(other))

    def __gt__(self, other: str) -> bool:
        return bool(self._plain > _plain(other))

    def __ge__(self, other: str) -> bool:
        return bool(self._plain >= _plain(other))

    def __contains__(self, other: object) -> bool:
        return _plain(other) in self._plain

    def __iter__(self) -> Iterator[str]:
        return map(self._marking.text, super().__iter__())

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        return self._marking.text(super().__getitem__(key))

    def strip(self, chars: str | None = None, /) -> str:
        left = self._plain.lstrip(_plain(chars))
        start = len(self) - len(left)
        return self._cut(start, start + len(left.rstrip(_plain(chars))))

    def lstrip(self, chars: str | None = None, /) -> str:
        return self._cut(len(self) - len(self._plain.lstrip(_plain(chars))), len(self))

    def rstrip(self, chars: str | None = None, /) -> str:
        return self._cut(0, len(self._plain.rstrip(_plain(chars))))

    def removeprefix(self, prefix: str, /) -> str:
        return self._cut(len(self) - len(self._plain.removeprefix(_plain(prefix))), len(self))

    def removesuffix(self, suffix: str, /) -> str:
        return self._cut(0, len(self._plain.removesuffix(_plain(suffix))))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._pieces(self._plain.split(_plain(sep), maxsplit), _plain(sep))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._pieces(self._plain.rsplit(_plain(sep), maxsplit), _plain(sep))

    def splitlines(self, keepends: bool = False) -> list[str]:
        whole = self._pieces(self._plain.splitlines(keepends=True), "")
        if keepends:
            return whole
        bare = map(len, self._plain.splitlines())
        return [line[:length] for line, length in zip(whole, bare, strict=True)]

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        before, between, _ = map(len, self._plain.partition(_plain(sep)))
        end = before + between
        return self._cut(0, before), self._cut(before, end), self._cut(end, len(self))

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        before, between, _ = map(len, self._plain.rpartition(_plain(sep)))
        end = before + between
        return self._cut(0, before), self._cut(before, end), self._cut(end, len(self))

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        if not old:
            return self._marking.text(super().replace(old, new, count))
        return self._marking.text(str.join(new, self.split(old, count)))


def _plain(value: Any) -> Any:
    """What a marked text, or a tuple of such, stands for; anything else as it is."""
    if isinstance(value, MarkedText):
        return value._plain  # noqa: SLF001  # its own module
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def _read_plainly(name: str) -> Callable[..., object]:
    """A method that tells something of the text: it is the plain text's."""

    def read(self: MarkedText, *args: object, **named: object) -> object:
        return getattr(_plain(self), name)(*map(_plain, args), **named)

    return read


def _recased(name: str) -> Callable[..., str]:
    """A method that changes the case of letters."""

    def make(self: MarkedText) -> str:
        marking = self._marking
        if not marking.has_letters:
            return marking.text(getattr(str, name)(self))
        plain, made = _plain(self), getattr(_plain(self), name)()
        if len(made) != len(self):
            return marking.text(marking.users(made))
        marked = zip(str.__str__(self), plain, made, strict=True)
        return marking.text("".join([new if old == own else marking.users(new) for own, old, new in marked]))

    return make


def _kept(name: str) -> Callable[..., str]:
    """A method that makes a text of the same characters: stand-ins stay."""

    def make(self: MarkedText, *args: object, **named: object) -> str:
        made: str = getattr(str, name)(self, *args, **named)
        return self._marking.text(made)  # noqa: SLF001  # its own module

    return make


for _name in ("startswith", "endswith", "find", "rfind", "index", "rindex", "count", "encode"):
    setattr(MarkedText, _name, _read_plainly(_name))
for _name in [name for name in dir(str) if name.startswith("is")]:
    setattr(MarkedText, _name, _read_plainly(_name))
for _name in ("lower", "upper", "title", "capitalize", "swapcase", "casefold"):
    setattr(MarkedText, _name, _recased(_name))
for _name in ("join", "center", "ljust", "rjust", "zfill", "expandtabs", "translate"):
    setattr(MarkedText, _name, _kept(_name))
