"""Where the demo model's training data comes from, under which licences, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from demo_data.phrasing import join_words

_LICENCE = "https://creativecommons.org/licenses/by/2.0/fr/"


def data_card(sentences: int, authors: int, conversations: int, tales: int) -> str:
    """Return what the model card says of data and limits, as Markdown."""
    return f"""\
| source | licence |
| --- | --- |
| *Grimms' Fairy Tales*, translated by Edgar Taylor and Marian Edwardes (Project Gutenberg 2591) \
| public domain |
| *Little Women*, Louisa May Alcott (Project Gutenberg 514) | public domain |
| *A Connecticut Yankee in King Arthur's Court*, Mark Twain (Project Gutenberg 86) | public domain |
| {sentences:,} English sentences by {authors:,} authors from [Tatoeba](https://tatoeba.org), by way of \
[ManyThings.org](https://www.manythings.org/anki/) | [CC-BY 2.0 FR]({_LICENCE}) |
| {conversations:,} conversations and {tales:,} short tales written by the program \
`engine/demo_data` of the repository | Apache-2.0, as Farebox |

Headings, licence lines and typographic marks were removed from the books; the sentences were
shuffled and some answer requests for a sentence with a given word. `ATTRIBUTION.txt` names the
sentences' authors.

## Limits

It speaks plain English and answers what its templates cover: greetings, simple facts, small sums,
questions about Farebox, short tales. Beyond that it makes things up, mixes subjects and loses the
thread. It knows nothing of the world after its books, writes no code and speaks no other language.
The books are of the nineteenth century, and so are some of their views. Use it to see that the way
from prompt to invoice works, not for answers that matter.
"""


def attribution(authors: Sequence[str]) -> str:
    """Return the credit that CC-BY asks for."""
    return (
        "Some sentences this model was trained on come from Tatoeba (https://tatoeba.org), by way of\n"
        "ManyThings.org (https://www.manythings.org/anki/), under the Creative Commons Attribution 2.0\n"
        f"France licence ({_LICENCE}).\nThey were shuffled and put into other text. "
        f"Their authors on Tatoeba:\n\n{join_words(list(authors))}\n"
    )
