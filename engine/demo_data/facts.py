"""Questions about simple facts, arithmetic and words, made from the tables."""

# ruff: noqa: E501, SIM905 - templates and word lists read best unbroken.

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from demo_data import tables
from demo_data.phrasing import article, capitalise, join_words, vary
from demo_data.smalltalk import Exchange


def capital(rng: random.Random) -> Exchange:
    country, city = rng.choice(list(tables.CAPITALS.items()))
    if rng.random() < 0.25:
        return f"Where is {city}?", f"{city} is the capital of {country}."
    question = "[what is the capital of {country}|what's the capital of {country}|tell me the capital of {country}|which city is the capital of {country}]?"
    return vary(question, rng, country=country), f"The capital of {country} is {city}."


def animal(rng: random.Random) -> Exchange:
    name, (young, sound, food, home, legs, what) = rng.choice(list(tables.ANIMALS.items()))
    one = capitalise(article(name))
    choices = [
        (
            "[what is {one}|tell me about {one}s|what is {one} like]?",
            f"{one} is {what}. It eats {food} and lives {home}.",
        ),
        ("what is {one}?", f"{one} is {what}."),
        (
            "[what do you call a young {name}|what is a young {name} called|what is a baby {name} called]?",
            f"A young {name} is called {article(young)}.",
        ),
        ("[what sound does {one} make|what does {one} say|what noise does {one} make]?", f"{one} {sound}."),
        ("[what does {one} eat|what do you feed {one}]?", f"{one} eats {food}."),
        ("[where does {one} live|where can i find {one}]?", f"{one} lives {home}."),
        ("how many legs does {one} have?", f"{one} has {legs} legs."),
    ]
    question, answer = rng.choice(choices)
    if "{one}s" in question:
        question = "[what is {one}|tell me about the {name}]?"
    return vary(question, rng, one=article(name), name=name), answer


def bigger(rng: random.Random) -> Exchange:
    small, big = sorted(rng.sample(range(len(tables.SIZES)), 2))
    less, more = article(tables.SIZES[small]), article(tables.SIZES[big])
    first, second = rng.sample([less, more], 2)
    if rng.random() < 0.5:
        return vary(
            "[which|what] is bigger, {a} or {b}?", rng, a=first, b=second
        ), f"{capitalise(more)} is bigger than {less}."
    if rng.random() < 0.5:
        return vary(
            "[which|what] is smaller, {a} or {b}?", rng, a=first, b=second
        ), f"{capitalise(less)} is smaller than {more}."
    verdict = "Yes" if first == more else "No"
    return vary(
        "is {a} bigger than {b}?", rng, a=first, b=second
    ), f"{verdict}, {more} is bigger than {less}."


def colour(rng: random.Random) -> Exchange:
    thing, hue = rng.choice(list(tables.COLOURS.items()))
    if rng.random() < 0.25:
        guess = rng.choice([hue, rng.choice(list(tables.COLOURS.values()))])
        verdict = "Yes" if guess == hue else "No"
        return f"Is {thing} {guess}?", f"{verdict}, {thing} is {hue}."
    return vary("[what|which] [colour|color] is {thing}?", rng, thing=thing), f"{capitalise(thing)} is {hue}."


def opposite(rng: random.Random) -> Exchange:
    word, other = rng.choice(list(tables.OPPOSITES.items()))
    if rng.random() < 0.4 and word not in {"tall", "light"}:
        word, other = other, word
    question = '[what is the opposite of|what is the contrary of|tell me the opposite of|opposite of] [{word}|"{word}"]?'
    return vary(question, rng, word=word), f'The opposite of "{word}" is "{other}".'


def calendar(rng: random.Random) -> Exchange:
    names, noun = rng.choice([(tables.DAYS, "day"), (tables.MONTHS, "month")])
    place = rng.randrange(len(names))
    now, after = names[place], names[(place + 1) % len(names)]
    if rng.random() < 0.5:
        question = "[what {noun} comes after {now}|which {noun} comes after {now}|what comes after {now}|what is the {noun} after {now}]?"
        return vary(question, rng, noun=noun, now=now), f"{after} comes after {now}."
    question = (
        "[what {noun} comes before {after}|which {noun} comes before {after}|what comes before {after}]?"
    )
    return vary(question, rng, noun=noun, after=after), f"{now} comes before {after}."


def calendar_lists(rng: random.Random) -> Exchange:
    choices = [
        (
            "[what are the days of the week|name the days of the week|list the days of the week|tell me the days of the week][|?|.]",
            f"The days of the week are {join_words(tables.DAYS)}.",
        ),
        (
            "[what are the months of the year|name the months|list the months of the year][|?|.]",
            f"The months of the year are {join_words(tables.MONTHS)}.",
        ),
        (
            "[what are the seasons|name the four seasons|what are the four seasons][|?|.]",
            "The four seasons are spring, summer, autumn and winter.",
        ),
        (
            "[what is the first day of the week|on which day does the week begin]?",
            "The week begins on Monday.",
        ),
        ("what is the [first|last] month of the year?", ""),
        ("[which days are the weekend|what is the weekend]?", "The weekend is Saturday and Sunday."),
    ]
    question, answer = rng.choice(choices)
    text = vary(question, rng)
    if not answer:
        answer = (
            f"The first month of the year is {tables.MONTHS[0]}."
            if "first" in text
            else f"The last month of the year is {tables.MONTHS[-1]}."
        )
    return text, answer


def season(rng: random.Random) -> Exchange:
    name, text = rng.choice(list(tables.SEASONS.items()))
    return vary(
        "[what is {name} like|tell me about {name}|what happens in {name}|describe {name}]?", rng, name=name
    ), text


def number_after(rng: random.Random) -> Exchange:
    place = rng.randrange(1, 20)
    if rng.random() < 0.5:
        return vary(
            "[what|which] number comes after {n}?", rng, n=tables.NUMBERS[place]
        ), f"{capitalise(tables.NUMBERS[place + 1])} comes after {tables.NUMBERS[place]}."
    return vary(
        "[what|which] number comes before {n}?", rng, n=tables.NUMBERS[place]
    ), f"{capitalise(tables.NUMBERS[place - 1])} comes before {tables.NUMBERS[place]}."


def counting(rng: random.Random) -> Exchange:
    end = rng.choice([3, 5, 7, 10, 12])
    return vary(
        "count [up |from one |]to [{digits}|{word}][|, please|.]", rng, digits=end, word=tables.NUMBERS[end]
    ), capitalise(", ".join(tables.NUMBERS[1 : end + 1])) + "."


def arithmetic(rng: random.Random) -> Exchange:
    first, second = rng.randint(0, 10), rng.randint(0, 10)
    sign = rng.choice(["plus", "minus", "plus", "times"])
    if sign == "minus":
        first, second = max(first, second), min(first, second)
    if sign == "times":
        first, second = rng.randint(0, 5), rng.randint(0, 4)
    result = {"plus": first + second, "minus": first - second, "times": first * second}[sign]
    symbol = {"plus": "+", "minus": "-", "times": "*"}[sign]
    words = f"{tables.NUMBERS[first]} {sign} {tables.NUMBERS[second]}"
    asked = rng.choice([words, words, f"{first} {symbol} {second}", f"{first} {sign} {second}"])
    question = vary("[what is|how much is|can you tell me what is|calculate] {asked}?", rng, asked=asked)
    return question, f"{capitalise(words)} is {tables.NUMBERS[result]}."


def grammar(rng: random.Random) -> Exchange:
    if rng.random() < 0.5:
        one, many = rng.choice(list(tables.PLURALS.items()))
        return vary(
            'what is the plural of [{one}|"{one}"]?', rng, one=one
        ), f'The plural of "{one}" is "{many}".'
    now, past = rng.choice(list(tables.PASTS.items()))
    return vary(
        'what is the past tense of [{now}|"{now}"|to {now}]?', rng, now=now
    ), f'The past tense of "{now}" is "{past}".'


def measure(rng: random.Random) -> Exchange:
    question, answer = rng.choice(list(tables.MEASURES.items()))
    return f"How many {question}?", answer


def definition(rng: random.Random) -> Exchange:
    noun, meaning = rng.choice(list(tables.DEFINITIONS.items()))
    question = '[what is {one}|what does "{noun}" mean|explain what {one} is|can you tell me what {one} is|define "{noun}"]?'
    return vary(question, rng, one=article(noun), noun=noun), f"{capitalise(article(noun))} is {meaning}."


def job(rng: random.Random) -> Exchange:
    name, work = rng.choice(list(tables.JOBS.items()))
    if rng.random() < 0.3:
        return f"Who {work}?", f"{capitalise(article(name))} {work}."
    return vary(
        "[what does {one} do|what is the work of {one}|what is {one}]?", rng, one=article(name)
    ), f"{capitalise(article(name))} {work}."


def members(rng: random.Random) -> Exchange:
    group, names = rng.choice(list(tables.GROUPS.items()))
    count = rng.choice([2, 3, 3, 4])
    chosen = rng.sample(names, count)
    question = "[name|tell me|list|can you name] [{word}|{digit}] {group}[|, please|.]"
    return vary(question, rng, word=tables.NUMBERS[count], digit=count, group=group), capitalise(
        join_words(chosen)
    ) + "."


def book(rng: random.Random) -> Exchange:
    question, answer = rng.choice(tables.BOOKS)
    return vary(question, rng), answer


FACTS: Sequence[Callable[[random.Random], Exchange]] = (
    capital, capital, animal, animal, animal, bigger, colour, opposite, opposite, calendar, calendar,
    calendar_lists, season, number_after, counting, arithmetic, arithmetic, arithmetic, grammar, measure,
    definition, definition, definition, job, members, members, book, book,
)  # fmt: skip


def fact(rng: random.Random) -> Exchange:
    """Return one question about a fact, with its answer."""
    return rng.choice(FACTS)(rng)
