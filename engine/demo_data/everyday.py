"""Reasons, opinions, descriptions and letters: answers of more than one sentence, and polite ways out."""

# ruff: noqa: E501, SIM905 - templates and word lists read best unbroken.

from __future__ import annotations

import random

from demo_data.phrasing import article, capitalise, join_words, vary, vary_within
from demo_data.smalltalk import NAMES, Exchange

_WHY: list[Exchange] = [
    ("why is the sky blue?", "The air scatters blue light more than red light, so the sky looks blue."),
    (
        "why do leaves fall[| in autumn]?",
        "In autumn a tree cannot keep its leaves alive, so it lets them fall and rests until spring.",
    ),
    ("why do birds sing?", "Birds sing to find a mate and to say that a place is theirs."),
    ("why do we sleep?", "We sleep because the body and the mind need rest."),
    ("why do we eat?", "We eat because food gives us strength and helps us grow."),
    (
        "why is it [dark|cold] at night?",
        "At night the sun is on the other side of the earth, so we get no light and no warmth from it.",
    ),
    (
        "why does it rain?",
        "Water rises from the sea into the air, turns into clouds and falls down again as rain.",
    ),
    (
        "why is the sea salty?",
        "Rivers carry a little salt from the land into the sea, and it stays there when the water dries up.",
    ),
    (
        "why do cats [purr|sleep so much]?",
        "A cat purrs when it feels safe and happy, and it sleeps a lot to save its strength.",
    ),
    ("why do dogs bark?", "Dogs bark to warn us, to greet us or to call for us."),
    (
        "why is snow white?",
        "Snow is made of many small pieces of ice that send back all the light, so it looks white.",
    ),
    (
        "why do people [read|read books]?",
        "People read to learn new things and to live in other worlds for a while.",
    ),
    (
        "why do we need trees?",
        "Trees give us clean air, shade, fruit and wood, and many animals live in them.",
    ),
    (
        "why should i learn [english|languages|to read]?",
        "It helps you to understand other people and to learn from them.",
    ),
    ("why is water important?", "Without water no plant, no animal and no person can live."),
    (
        "why do we have seasons?",
        "The earth leans to one side as it goes around the sun, so each part gets more light in summer than in winter.",
    ),
    ("why do people [laugh|smile]?", "People laugh because they are happy or because something is funny."),
    ("why is honesty important?", "If we tell the truth, other people can trust us."),
    ("why are friends important?", "A friend shares our joy and helps us when we are sad."),
    (
        "why does ice [melt|swim|float]?",
        "Ice turns into water when it gets warm, and it floats because it is lighter than water.",
    ),
    ("[where does the sun rise|in which direction does the sun rise]?", "The sun rises in the east."),
    ("[where does the sun set|in which direction does the sun set]?", "The sun sets in the west."),
    (
        "[what is the largest animal|which animal is the largest]?",
        "The blue whale is the largest animal in the world.",
    ),
    (
        "[what is the highest mountain|which mountain is the highest]?",
        "Mount Everest is the highest mountain in the world.",
    ),
    (
        "[what is the fastest animal|which land animal is the fastest]?",
        "The cheetah is the fastest animal on land.",
    ),
    ("[where does milk come from|who gives milk]?", "Milk comes from cows, goats and sheep."),
    ("[where does honey come from|who makes honey]?", "Honey is made by bees."),
    ("[where does wool come from|who gives wool]?", "Wool comes from sheep."),
    (
        "[where does bread come from|how is bread made]?",
        "Bread is made from flour and water and baked in an oven.",
    ),
    (
        "[where does wood come from|what is paper made of]?",
        "Wood comes from trees, and paper is made from wood.",
    ),
    (
        "[what is glass made of|how is glass made]?",
        "Glass is made of sand that is melted in a very hot fire.",
    ),
    (
        "[what do plants need|what does a plant need to grow]?",
        "A plant needs light, water, air and good earth.",
    ),
    (
        "[how does a bird fly|how do birds fly]?",
        "A bird beats its wings against the air, and the air lifts it up.",
    ),
    (
        "[when do we eat breakfast|what is breakfast]?",
        "Breakfast is the first meal of the day. We eat it in the morning.",
    ),
    (
        "[who wrote romeo and juliet|who wrote hamlet|who was shakespeare]?",
        "William Shakespeare was an English poet who wrote Hamlet and Romeo and Juliet.",
    ),
    (
        "[who was mark twain|who is mark twain]?",
        "Mark Twain was an American writer who wrote many funny books.",
    ),
    (
        "[what is the moon|what is the sun]?",
        "The sun is a star that gives us light, and the moon goes around the earth.",
    ),
    ("[is the earth round|what shape is the earth]?", "The earth is round, like a ball."),
    (
        "[how many people live in a family|what is a family]?",
        "A family is a group of people who belong together, such as parents and their children.",
    ),
]

_FLYING = "bird duck bee owl crow goose eagle sparrow fly swan".split()
_SWIMMING = "fish duck dog frog horse penguin whale goose swan snake".split()
_GROUNDED = "dog cat horse fish frog cow pig mouse lion snake penguin elephant sheep fox".split()

_THINGS = (
    "apples books cats chess coffee dogs flowers games horses music poems rain school snow songs stories "
    "summer tea trains trees winter work winter cities travel friends money dreams gardens birds bread cheese "
    "chocolate soup the_sea the_moon the_city the_country the_forest old_houses long_walks good_food"
).split()

_DESCRIPTIONS = {
    "forest": ["The trees are tall and old.", "It is cool and quiet there.", "Birds sing in the branches.", "A small path leads between the trees.", "Sometimes a deer looks out from behind a bush."],
    "sea": ["The sea is wide and blue.", "The waves come and go all day.", "White birds fly over the water.", "In a storm the waves are as high as houses.", "The air smells of salt."],
    "village": ["There are a few small houses around a church.", "Everybody knows everybody.", "In the evening people sit in front of their doors.", "A brook runs beside the road.", "The bells ring on Sunday."],
    "garden": ["Roses grow along the wall.", "There is an old apple tree in the middle.", "Bees fly from flower to flower.", "In summer there are sweet berries.", "A cat sleeps in the sun."],
    "city": ["The streets are full of people and cars.", "There are shops and tall houses everywhere.", "At night a thousand lights are burning.", "The trains come and go all day.", "It is never quite still."],
    "house": ["It is small and white, with a red roof.", "There is a warm kitchen with a big table.", "The windows look out on the garden.", "A fire burns in the evening.", "The stairs are old and they creak."],
    "winter day": ["Snow lies on the roofs and in the fields.", "The air is clear and cold.", "Children build a man of snow.", "Smoke rises from the chimneys.", "It grows dark early."],
    "summer day": ["The sun is high and the sky is blue.", "The children swim in the lake.", "People sit in the shade of the trees.", "The days are long and warm.", "In the evening the crickets sing."],
    "market": ["People sell fruit, bread and flowers.", "It is loud and full of colour.", "An old man plays the violin.", "The women talk and laugh.", "It smells of fresh bread."],
    "castle": ["It stands on a high rock.", "Its walls are thick and grey.", "Long ago a king lived there.", "Now only the owls live in the tower.", "From the top you can see the whole valley."],
}  # fmt: skip

_REPLIES = (
    "I see. [Tell me more about it.|Please tell me more.|Would you like to tell me more?]",
    "[That is interesting.|How interesting!|I understand.] [Why do you say that?|What happened then?|How do you feel about it?]",
    "[Thank you for telling me.|It is good that you tell me.] [What will you do now?|What do you think about it?]",
)
_EVASIONS = (
    "I am not sure. I am a small model and I know only a little.",
    "I do not know[, I am sorry|]. [What do you think?|Can you tell me?]",
    "That is a hard question for a small model. I do not know the answer.",
    "I am sorry, I do not know that.",
)


def reason(rng: random.Random) -> list[Exchange]:
    question, answer = rng.choice(_WHY)
    return [(vary(question, rng), answer)]


def ability(rng: random.Random) -> list[Exchange]:
    verb, names, can = rng.choice(
        [("fly", _FLYING, True), ("fly", _GROUNDED, False), ("swim", _SWIMMING, True)]
    )
    one = article(rng.choice(names))
    answer = f"Yes, {one} can {verb}." if can else f"No, {one} cannot {verb}."
    return [(f"Can {one} {verb}?", answer)]


def opinion(rng: random.Random) -> list[Exchange]:
    thing = rng.choice(_THINGS).replace("_", " ")
    asked = vary(
        "[do you like {thing}|what do you think about {thing}|what do you think of {thing}|tell me something about {thing}]?",
        rng,
        thing=thing,
    )
    told = vary(
        "[I think that {thing} can make people happy.|Many people like {thing}.|There is much to say about {thing}.|I have read about {thing} in many books.] [Do you like {thing}?|What do you think?|How about you?]",
        rng,
        thing=thing,
    )
    turns = [(asked, told)]
    if rng.random() < 0.4:
        likes = vary(
            "[yes, i do|yes, very much|i like {thing}|no, not really|i do not like {thing}].",
            rng,
            thing=thing,
        )
        turns.append(
            (
                likes,
                vary(
                    "[I see.|That is good to know.|I understand.] [Thank you for telling me.|Why is that?]",
                    rng,
                ),
            )
        )
    return turns


def description(rng: random.Random) -> list[Exchange]:
    thing, lines = rng.choice(list(_DESCRIPTIONS.items()))
    one = f"the {thing}" if thing == "sea" else article(thing)
    chosen = [lines[place] for place in sorted(rng.sample(range(len(lines)), rng.choice([3, 4])))]
    asked = vary(
        "[describe {one}|write a few sentences about {one}|can you describe {one}|write about {one}][|, please|.]",
        rng,
        one=one,
    )
    return [(asked, " ".join(chosen))]


def letter(rng: random.Random) -> list[Exchange]:
    name, sender = rng.sample(NAMES, 2)
    cause, body = rng.choice([
        ("a thank-you letter", "thank you very much for the [lovely|beautiful|kind] [present|book|letter]. It made me very happy. I hope to see you soon."),
        ("a birthday card", "happy birthday! I wish you good health, much joy and a wonderful day with your friends."),
        ("an invitation", "I would like to invite you to my [party|house|garden] on {day}. There will be cake and tea. Please come!"),
        ("an apology", "I am sorry that I was late on {day}. It will not happen again. Please forgive me."),
        ("a short letter", "how are you? I am well. The weather is [fine|cold|warm] and I often go for walks. Please write to me soon."),
    ])  # fmt: skip
    day = rng.choice(["Sunday", "Friday", "Saturday"])
    asked = vary(
        "[write {cause} to {name}|can you write {cause} to {name}|please write {cause} to {name}][.|, please.]",
        rng,
        cause=cause,
        name=name,
    )
    return [
        (
            asked,
            vary(
                "Dear {name}, {body} Yours, {sender}",
                rng,
                name=name,
                body=vary_within(body, rng, day=day),
                sender=sender,
            ),
        )
    ]


def shopping(rng: random.Random) -> list[Exchange]:
    """A list is given and asked for again."""
    things = rng.sample(
        "milk bread eggs apples cheese tea salt butter rice honey soap paper".split(),
        rng.choice([2, 3, 3, 4]),
    )
    listed = join_words(things)
    turns = [
        (
            vary(
                "[i need to buy|please remember|my shopping list is|i want to buy] {listed}.",
                rng,
                listed=listed,
            ),
            vary("[All right|Very well|I see]: {listed}.", rng, listed=listed),
        )
    ]
    asked = "[what do i need to buy|what was on my list|what is on my shopping list|what did i want to buy]?"
    turns.append((vary(asked, rng), vary("You [need|want] to buy {listed}.", rng, listed=listed)))
    return turns


def statement(rng: random.Random, sentences: list[str]) -> list[Exchange]:
    """Somebody says or asks something that no template knows; the answer stays polite and general."""
    said = rng.choice(sentences)
    return [(said, vary(rng.choice(_EVASIONS if said.endswith("?") else _REPLIES), rng))]


def echo(rng: random.Random, sentences: list[str]) -> list[Exchange]:
    said = rng.choice(sentences)
    return [(vary("[repeat|say|repeat after me|please say]: ", rng) + said, capitalise(said))]
