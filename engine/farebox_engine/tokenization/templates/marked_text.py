"""Text that tells a user's characters from a template's, and that a template reads as if it were plain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, SupportsIndex

from farebox_engine.tokenization.templates.stand_ins import RUN, StandIns


class Marking:
    """Whose the characters of one rendering are: a user's are replaced by stand-ins, one for one.

    What goes through a template keeps them, whatever the template does to it; so they tell afterwards
    who wrote a character.
    """

    def __init__(self) -> None:
        self._stand_ins = StandIns()

    def mark(self, value: object) -> object:
        """`value`, made of dicts, lists and scalars, with every string a user's."""
        if isinstance(value, str):
            return self.made_of(value)
        if isinstance(value, Mapping):
            return {self.mark(key): self.mark(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.mark(item) for item in value]
        return value

    def made_of(self, plain: str) -> str:
        """A text for a template to read, of which every character is a user's."""
        return MarkedText(self.users(plain), self, plain) if plain else ""

    def users(self, plain: str) -> str:
        """`plain`, which holds no stand-ins, with stand-ins in all places."""
        return self._stand_ins.put(plain)

    def text(self, text: str) -> str:
        """`text`, which may hold stand-ins, for a template to read."""
        return MarkedText(text, self) if RUN.search(text) else text

    def searched(self, text: str) -> str:
        """`text`, which holds no stand-ins, to look for a text in it that may."""
        return MarkedText(text, self, text)

    def plain(self, text: str) -> str:
        """`text` with the characters that stand-ins stand for."""
        return self._stand_ins.take_back(raw(text))

    def unmark(self, value: object) -> object:
        """The reverse of `mark`, for what a template made as well."""
        if isinstance(value, MarkedText):
            return _plain(value)
        if isinstance(value, Mapping):
            return {self.unmark(key): self.unmark(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.unmark(item) for item in value]
        return value

    def respelt(self, text: str, spellings: Mapping[int, str]) -> str:
        """`text` with `spellings` of a user's characters, by their code points, one after the other."""
        for code, spelling in spellings.items():
            if code in self._stand_ins:
                text = text.replace(chr(self._stand_ins[code]), self.users(spelling))
        return text


class MarkedText(str):
    """A string that holds stand-ins, and compares, is searched and is cut as what they stand for.

    A stand-in takes the place of one character, so that places in both texts are the same.
    """

    __slots__ = ("_known", "_marking")

    def __new__(cls, text: str, marking: Marking, plain: str | None = None) -> MarkedText:
        """`plain`: what `text` stands for, where that is known."""
        made = super().__new__(cls, text)
        made._marking = marking
        made._known = plain
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

    def __add__(self, other: str) -> str:
        return self._marking.text(raw(self) + raw(other))

    def __radd__(self, other: str) -> str:
        return self._marking.text(raw(other) + raw(self))

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


def raw(text: str) -> str:
    """The characters as they are stored, of a marked text as well."""
    return str.__getitem__(text, slice(None))


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
        made: str = getattr(_plain(self), name)()
        if len(made) != len(self):
            return marking.made_of(made)
        return marking.text(_over_runs(self, made))

    return make


def _over_runs(marked: MarkedText, made: str) -> str:
    """`made`, as long as `marked`, a user's in the same places."""
    parts, done = [], 0
    for run in RUN.finditer(marked):
        parts += [made[done : run.start()], marked._marking.users(made[run.start() : run.end()])]  # noqa: SLF001  # its own module
        done = run.end()
    return "".join([*parts, made[done:]])


def _kept(name: str) -> Callable[..., str]:
    """A method that makes a text of the same characters: stand-ins stay."""

    def make(self: MarkedText, *args: object, **named: object) -> str:
        made: str = getattr(str, name)(self, *args, **named)
        return self._marking.text(made)  # noqa: SLF001  # its own module

    return make


for _name in ("startswith", "endswith", "find", "rfind", "index", "rindex", "count"):
    setattr(MarkedText, _name, _read_plainly(_name))
for _name in [name for name in dir(str) if name.startswith("is")]:
    setattr(MarkedText, _name, _read_plainly(_name))
for _name in ("lower", "upper", "title", "capitalize", "swapcase", "casefold"):
    setattr(MarkedText, _name, _recased(_name))
for _name in ("join", "center", "ljust", "rjust", "zfill", "expandtabs", "translate"):
    setattr(MarkedText, _name, _kept(_name))
