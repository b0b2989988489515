"""Short tales put together from parts that fit, and questions about them."""

# ruff: noqa: E501, SIM905 - templates and word lists read best unbroken.

from __future__ import annotations

import random
from dataclasses import dataclass

from farebox_engine.training.demo_data.phrasing import article, capitalise, vary
from farebox_engine.training.demo_data.smalltalk import Exchange

_ANIMALS = "fox bear owl mouse rabbit cat dog frog duck goose wolf horse goat hen bird deer".split()
_PEOPLE = [
    "girl",
    "boy",
    "king",
    "queen",
    "princess",
    "prince",
    "farmer",
    "tailor",
    "miller",
    "baker",
    "sailor",
]
_FEMALE = {"girl", "queen", "princess", "hen", "duck", "goose", "cat", "owl"}
_NAMES = {
    True: "Anna Clara Emma Rosa Lucy Mina Nora Bella Daisy Ida Lotta Tilly".split(),
    False: "Hans Tom Felix Oscar Ben Max Leo Otto Jack Peter Bruno Sam".split(),
}
_TRAITS = "little clever brave kind poor lazy young old happy hungry curious lonely proud gentle".split()
_PLACES = (
    "in a small house by the forest|at the edge of a deep forest|near a quiet lake|on a green hill|in a little "
    "village by the sea|in an old castle|at the foot of a high mountain|on a small farm|beside a wide river"
).split("|")
_SEEKER_THINGS = (
    "a golden apple|a silver key|a magic ring|a lost lamb|a warm coat|a good friend|a blue feather|a sweet "
    "pear|a bright star|a red ball"
).split("|")
_HELPERS = (
    "an old woman|a white bird|a wise owl|a small mouse|a kind old man|a grey goose|a friendly dwarf|a green "
    "frog|a poor shepherd"
).split("|")
_TROUBLES = [
    "But the way was long, and soon it grew dark, and {he} was lost among the trees.",
    "But a great storm came, and the rain fell, and {he} could not see the way.",
    "But there was a deep river in the way, and {he} could not swim.",
    "But a wicked wolf stood in the road and would not let {him} pass.",
    "But the door was locked, and nobody had the key.",
    "But {he} grew tired and hungry, and there was nothing to eat.",
    "But {he} fell into a deep hole and could not climb out again.",
]
_HELPS = [
    '"Do not be afraid," said {helper}. "I will help you."',
    '"Come with me," said {helper}. "I know the way."',
    '"Share your bread with me," said {helper}, "and I will help you."',
    '"Why do you weep?" asked {helper}. "I will show you what to do."',
]
_SHARES = [
    "So {name} shared {his} bread with {the_helper}, and they went on together.",
    "So {name} took heart and followed {the_helper}.",
    "{name} thanked {the_helper} with all {his} heart.",
    "Then {name} was glad, and they walked all night under the stars.",
]
_ENDS = [
    "In the end {name} found {thing} and went home full of joy.",
    "When the sun rose, {name} saw {thing} at last and laughed for joy.",
    "At last {he} found {thing}, and everybody was happy.",
    "Before the evening came {name} had {thing} and was home again.",
]
_MORALS = [
    "From that day on {name} was never alone again.",
    "And {name} and {the_helper} stayed friends for the rest of their lives.",
    "And they lived happily ever after.",
    "And {name} never forgot how good it is to have a friend.",
    "So it is good to be kind, for kindness always comes back.",
]


@dataclass(frozen=True, slots=True)
class Tale:
    hero: str
    trait: str
    name: str
    female: bool
    place: str
    thing: str
    helper: str
    text: str


def tale(rng: random.Random, hero: str | None = None) -> Tale:
    """Tell a tale of six to nine sentences about ``hero``, or about somebody."""
    hero = hero or rng.choice(_ANIMALS + _PEOPLE)
    female = hero in _FEMALE or (hero in _ANIMALS and rng.random() < 0.3)
    name, trait = rng.choice(_NAMES[female]), rng.choice(_TRAITS)
    place, thing, helper = rng.choice(_PLACES), rng.choice(_SEEKER_THINGS), rng.choice(_HELPERS)
    words = {
        "hero": f"{trait} {hero}", "a_hero": article(f"{trait} {hero}"), "name": name, "place": place,
        "thing": thing, "helper": helper, "the_helper": f"the {helper.split(' ', 1)[1]}",
        "he": "she" if female else "he", "him": "her" if female else "him", "his": "her" if female else "his",
    }  # fmt: skip
    parts = [
        "[once upon a time there was|there was once|long ago there lived] {a_hero} [named|called|whose name was] {name}"
        "[ who lived|, who lived] {place}.",
        "[one day|one morning|one fine day in spring|one cold winter day] {name} [went out to look for|set out to find|wanted to find] {thing}.",
        rng.choice(_TROUBLES),
        "[then|just then|after a while|suddenly] {he} [met|saw|heard] {helper}.",
        rng.choice(_HELPS)
        .replace("said {helper}", "said {the_helper}")
        .replace("asked {helper}", "asked {the_helper}"),
        rng.choice(_SHARES),
        rng.choice(_ENDS),
        rng.choice(_MORALS),
    ]
    if rng.random() < 0.3:
        del parts[5]
    text = " ".join(vary(part, rng, **words) for part in parts)
    return Tale(hero, trait, name, female, place, thing, helper, text)


def story_turns(rng: random.Random) -> list[Exchange]:
    """Ask for a story, and sometimes about it."""
    told = tale(rng)
    if rng.random() < 0.65:
        asked = "[tell me a story about {one}|tell a short story about {one}|can you tell me a story about {one}|write a story about {one}|please tell me a tale about {one}|i want to hear a story about {one}][.|, please.]"
    else:
        asked = "[tell me a story|tell me a short story|can you tell me a story|tell me a fairy tale|i would like to hear a story|write a short story][.|, please.]"
    turns = [(vary(asked, rng, one=article(told.hero)), told.text)]
    questions = _questions(told)
    for question, answer in rng.sample(questions, rng.choice([0, 0, 1, 2, 3])):
        turns.append((vary(question, rng), vary(answer, rng)))
    if rng.random() < 0.2:
        again = tale(rng)
        turns.append((vary("[another one|tell me another story|one more][, please.|.|!]", rng), again.text))
    return turns


def _questions(told: Tale) -> list[Exchange]:
    he, his = ("she", "her") if told.female else ("he", "his")
    name, hero = told.name, told.hero
    return [
        (f"[what was the name of the {hero}|what was the {hero} called|who is the story about]?", f"The {hero} was called {name}."),
        (f"[where did {name} live|where did the {hero} live|where did {he} live]?", f"{name} lived {told.place}."),
        (f"[what did {name} look for|what did {he} want to find|what was {name} looking for]?", f"{name} looked for {told.thing}."),
        (f"[who helped {name}|who helped {'her' if told.female else 'him'}|who was the helper]?", f"{capitalise(told.helper)} helped {name}."),
        (f"[did {name} find {told.thing}|did {he} find it|how did it end]?", f"Yes, in the end {name} found {told.thing}."),
        ("[what do we learn from it|what is the moral of the story|why is it a good story]?", "It is good to be kind and to have a friend."),
        (f"[what was {name} like|what kind of {hero} was {name}]?", f"{name} was {article(f'{told.trait} {hero}')}."),
    ]  # fmt: skip


_RHYMES = [
    ("The {a} is bright, the sky is blue,", "and every flower is wet with dew."),
    ("The stars come out, the day is done,", "we say good night to the setting sun."),
    ("The snow falls softly on the hill,", "the birds are gone, the world is still."),
    ("The wind is singing in the tree,", "and all the little birds are free."),
    ("The river runs down to the sea,", "and sings its song for you and me."),
    ("A little mouse sat in the hall,", "and ate some cheese beside the wall."),
    ("The moon looks down upon the town,", "and wears the night just like a gown."),
    ("The rain is falling on the ground,", "it makes a soft and gentle sound."),
]


def poem(rng: random.Random) -> Exchange:
    """Ask for a poem of two to four lines."""
    lines = [line for pair in rng.sample(_RHYMES, rng.choice([1, 2, 2])) for line in pair]
    text = "\n".join(capitalise(line.format(a=rng.choice(["sun", "day", "morning"]))) for line in lines)
    question = "[write a poem|write me a poem|tell me a poem|can you write a short poem|write a short poem|say a rhyme][|, please|.]"
    return vary(question, rng), text
