"""Short tales put together from parts that fit, and questions about them."""

# ruff: noqa: E501, SIM905 - templates and word lists read best unbroken.

from __future__ import annotations

import random
from dataclasses import dataclass

from demo_data.phrasing import article, capitalise, capitalise_sentences, vary
from demo_data.smalltalk import Exchange

_ANIMALS = "fox bear owl mouse rabbit cat dog frog duck goose wolf horse goat hen bird deer pig sheep lion elephant monkey turtle snail cow crow swan squirrel hedgehog dragon".split()
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
_FEMALE = {
    "girl",
    "queen",
    "princess",
    "hen",
    "duck",
    "goose",
    "cat",
    "owl",
    "witch",
    "fairy",
    "cow",
    "sheep",
    "old woman",
    "teacher",
}
_NAMES = {
    True: "Anna Clara Emma Rosa Lucy Mina Nora Bella Daisy Ida Lotta Tilly Maria Sophie Greta Alma Julia Olivia".split(),
    False: "Hans Tom Felix Oscar Ben Max Leo Otto Jack Peter Bruno Sam Karl Fritz Hugo Theo Anton Rupert".split(),
}
_TRAITS = "little clever brave kind poor lazy young old happy hungry curious lonely proud gentle quiet merry shy wise small strong".split()
_PLACES = (
    "in a small house by the forest|at the edge of a deep forest|near a quiet lake|on a green hill|in a little "
    "village by the sea|under a great oak tree|behind a high wall|in a narrow valley|at the end of a long road|in a house with a red door|in an old castle|at the foot of a high mountain|on a small farm|beside a wide river"
).split("|")
_SEEKER_THINGS = (
    "a golden apple|a silver key|a magic ring|a lost lamb|a warm coat|a good friend|a blue feather|a sweet "
    "pear|a bright star|a red ball|a lost brother|a book of songs|a golden ring|a new home|a warm fire|a white rose|a wooden flute|a little boat|a map of the world|the end of the rainbow"
).split("|")
_HELPERS = (
    "an old woman|a white bird|a wise owl|a small mouse|a kind old man|a grey goose|a friendly dwarf|a green "
    "frog|a poor shepherd|a black cat|a young fisherman|a tired soldier|a silver fish|a little girl|an old horse|a brown bear|a blind man"
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
# Every plot names hero, place, thing and helper, so that the questions fit all of them.
_OPENING = (
    "[once upon a time there was|there was once|in old times there lived|long ago there was] {a_hero} "
    "[named|called] {name}[ who lived|, and {he} lived] {place}."
)
_OTHER_PLOTS = [
    [
        _OPENING,
        "{name} [had only one wish: to find|dreamed every night of|wanted nothing so much as] {thing}.",
        "[one evening|one night|one rainy day] {helper} knocked at the door [and asked for shelter|and was wet and cold].",
        '"[come in|you are welcome|sit down by the fire]," said {name}, and gave {his} guest [warm soup|bread and milk|the best bed in the house].',
        'In the morning the guest said, "[you have a good heart|you were kind to me]. [go to the old tree and dig|look under the old stone|open the box by the door]."',
        "{name} [did so|ran there at once|did as {he} was told], and there was {thing}!",
        "[{he} laughed and danced for joy.|{he} could hardly believe {his} eyes.|never had {he} been so glad.] {helper} had helped {him}.",
        "[so it is good to open the door to a stranger.|and they stayed friends as long as they lived.|and {name} shared it with everybody.]",
    ],
    [
        _OPENING,
        "All the others [laughed at {him}|said that {he} was too small|did not want to play with {him}], because {he} was [slow|shy|different].",
        'One day {name} [said|thought], "I will go out into the world and find {thing}. [then they will like me.|then they will see who I am.]"',
        "{he} walked [for three days and three nights|over the hills and through the woods|until {his} feet were sore].",
        "[by the road|under a tree|beside a well] sat {helper}, who was [hungry|hurt|weeping], and {name} stopped to help.",
        '"[since you helped me, I will help you|one good turn deserves another]," said {the_helper}, and [showed {him} the way|took {him} by the hand].',
        "[before long|soon|the next day] {name} found {thing} and came home full of pride.",
        "[from then on nobody laughed at {him}.|now everybody wanted to be {his} friend.|the others were ashamed and asked {him} to forgive them.]",
    ],
    [
        _OPENING,
        "{he} had lost {thing}, and [was very sad|wept all day|could not sleep].",
        "{name} looked [under the bed and behind the door|in the garden and in the barn|everywhere], but {he} could not find it.",
        'Then {helper} came by and asked, "[why are you so sad|what are you looking for|what is the matter]?"',
        '"I have lost {thing}," said {name}. "[please help me to look for it.|I do not know what to do.]"',
        '"[two see more than one|let us look together|do not lose heart]," said {the_helper}, and they began to search.',
        "[when the moon rose|at last|just before dark] {name} [saw something shining in the grass|looked under a bush]. It was {thing}!",
        "[they were both as happy as could be.|how glad they were!|they sang all the way home.] [and that is the end of the story.|the trouble was over.]",
    ],
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
    parts = _quest(rng) if rng.random() < 0.6 else rng.choice(_OTHER_PLOTS)
    text = capitalise_sentences(" ".join(vary(part, rng, **words) for part in parts))
    return Tale(hero, trait, name, female, place, thing, helper, text)


def _quest(rng: random.Random) -> list[str]:
    """Somebody looks for something, meets trouble and is helped."""
    parts = [
        "[once upon a time there was|there was once|long ago there lived] {a_hero} [named|called] {name}"
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
    return parts


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
