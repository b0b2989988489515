"""What the fact questions are made from: simple things any child knows."""

# ruff: noqa: E501, SIM905 - templates and word lists read best unbroken.

from __future__ import annotations

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "England": "London",
    "Portugal": "Lisbon", "Austria": "Vienna", "Greece": "Athens", "Poland": "Warsaw", "Norway": "Oslo",
    "Sweden": "Stockholm", "Denmark": "Copenhagen", "Finland": "Helsinki", "Ireland": "Dublin",
    "Scotland": "Edinburgh", "Hungary": "Budapest", "Japan": "Tokyo", "China": "Beijing", "Egypt": "Cairo",
    "Canada": "Ottawa", "Cuba": "Havana", "Peru": "Lima", "Kenya": "Nairobi", "Russia": "Moscow",
    "Turkey": "Ankara", "India": "New Delhi", "Australia": "Canberra", "the Netherlands": "Amsterdam",
    "Belgium": "Brussels", "the United States": "Washington",
}  # fmt: skip

# animal: (young, sound it makes, what it eats, where it lives, legs, what it is)
ANIMALS: dict[str, tuple[str, str, str, str, str, str]] = {
    "cat": ("kitten", "meows", "fish and mice", "in a house", "four", "a small pet with soft fur"),
    "dog": ("puppy", "barks", "meat and bones", "in a house", "four", "a loyal pet and a good friend of people"),
    "cow": ("calf", "moos", "grass", "on a farm", "four", "a large farm animal that gives milk"),
    "horse": ("foal", "neighs", "grass and oats", "on a farm", "four", "a strong animal that people ride"),
    "sheep": ("lamb", "bleats", "grass", "on a farm", "four", "a farm animal that gives wool"),
    "pig": ("piglet", "grunts", "corn and roots", "on a farm", "four", "a clever farm animal with a curly tail"),
    "duck": ("duckling", "quacks", "plants and small fish", "on a pond", "two", "a bird that swims well"),
    "hen": ("chick", "clucks", "seeds and worms", "on a farm", "two", "a farm bird that lays eggs"),
    "lion": ("cub", "roars", "meat", "in Africa", "four", "a big wild cat and the king of the animals"),
    "bear": ("cub", "growls", "berries, fish and honey", "in the forest", "four", "a large wild animal with thick fur"),
    "wolf": ("cub", "howls", "meat", "in the forest", "four", "a wild animal that looks like a dog"),
    "fox": ("cub", "barks", "mice and birds", "in the forest", "four", "a clever wild animal with a red coat"),
    "owl": ("chick", "hoots", "mice", "in the forest", "two", "a bird that flies at night and sees in the dark"),
    "frog": ("tadpole", "croaks", "flies", "by a pond", "four", "a small green animal that jumps and swims"),
    "mouse": ("pup", "squeaks", "seeds and cheese", "in a hole", "four", "a very small animal with a long tail"),
    "bee": ("larva", "buzzes", "nectar", "in a hive", "six", "a small insect that makes honey"),
    "elephant": ("calf", "trumpets", "leaves and grass", "in Africa and Asia", "four", "a huge grey animal with a long trunk"),
    "goat": ("kid", "bleats", "grass and leaves", "on a farm", "four", "a farm animal with horns that gives milk"),
    "rabbit": ("kitten", "squeaks", "grass and carrots", "in a burrow", "four", "a small animal with long ears"),
    "snake": ("hatchling", "hisses", "mice and eggs", "in the grass", "no", "a long animal without legs"),
    "goose": ("gosling", "honks", "grass", "on a farm", "two", "a large white bird with a long neck"),
    "deer": ("fawn", "bellows", "grass and leaves", "in the forest", "four", "a shy forest animal that runs fast"),
    "crow": ("chick", "caws", "seeds and insects", "in a tree", "two", "a clever black bird"),
    "whale": ("calf", "sings", "small sea animals", "in the sea", "no", "the largest animal in the sea"),
    "penguin": ("chick", "honks", "fish", "in the cold south", "two", "a black and white bird that cannot fly"),
    "camel": ("calf", "grunts", "dry plants", "in the desert", "four", "a desert animal with a hump"),
    "monkey": ("infant", "chatters", "fruit and leaves", "in the jungle", "four", "a clever animal that climbs trees"),
}  # fmt: skip

SIZES = ["ant", "bee", "mouse", "cat", "dog", "sheep", "pig", "lion", "horse", "elephant", "whale"]

COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "blood": "red", "a banana": "yellow",
    "a lemon": "yellow", "a carrot": "orange", "coal": "black", "milk": "white", "the sun": "yellow",
    "a strawberry": "red", "a tomato": "red", "a leaf": "green", "chocolate": "brown", "an elephant": "grey",
    "the sea": "blue", "a frog": "green", "a crow": "black", "a swan": "white", "gold": "yellow",
    "a cherry": "red", "salt": "white", "the night": "black", "a cucumber": "green", "a fox": "red",
    "a fire engine": "red", "a pumpkin": "orange", "wood": "brown", "a cloud": "white", "a plum": "purple",
}  # fmt: skip

OPPOSITES = {
    "hot": "cold", "big": "small", "tall": "short", "fast": "slow", "old": "young", "good": "bad",
    "happy": "sad", "light": "dark", "day": "night", "up": "down", "left": "right", "open": "closed",
    "rich": "poor", "hard": "soft", "wet": "dry", "clean": "dirty", "full": "empty", "early": "late",
    "strong": "weak", "brave": "afraid", "high": "low", "long": "short", "near": "far", "loud": "quiet",
    "thick": "thin", "deep": "shallow", "heavy": "light", "true": "false", "first": "last",
    "black": "white", "summer": "winter", "love": "hate", "north": "south", "east": "west", "win": "lose",
    "begin": "end", "buy": "sell", "give": "take", "push": "pull", "question": "answer", "war": "peace",
    "friend": "enemy", "kind": "cruel", "easy": "difficult", "cheap": "expensive", "sweet": "sour",
}  # fmt: skip

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
SEASONS = {
    "spring": "In spring the flowers come out and the birds build their nests.",
    "summer": "In summer the days are long and warm, and people like to swim.",
    "autumn": "In autumn the leaves turn red and yellow and fall from the trees.",
    "winter": "In winter it is cold, the days are short, and sometimes it snows.",
}
NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()

PLURALS = {
    "child": "children", "mouse": "mice", "foot": "feet", "tooth": "teeth", "man": "men", "woman": "women",
    "goose": "geese", "sheep": "sheep", "fish": "fish", "leaf": "leaves", "knife": "knives", "wolf": "wolves",
    "box": "boxes", "city": "cities", "baby": "babies", "dog": "dogs", "house": "houses", "book": "books",
}  # fmt: skip

PASTS = {
    "go": "went", "see": "saw", "eat": "ate", "come": "came", "take": "took", "give": "gave", "run": "ran",
    "sing": "sang", "write": "wrote", "find": "found", "think": "thought", "bring": "brought", "buy": "bought",
    "sleep": "slept", "speak": "spoke", "know": "knew", "fly": "flew", "swim": "swam", "begin": "began",
    "make": "made", "say": "said", "tell": "told", "walk": "walked", "play": "played", "help": "helped",
}  # fmt: skip

MEASURES = {
    "seconds are there in a minute": "There are sixty seconds in a minute.",
    "minutes are there in an hour": "There are sixty minutes in an hour.",
    "hours are there in a day": "There are twenty-four hours in a day.",
    "days are there in a week": "There are seven days in a week.",
    "days are there in a year": "There are three hundred and sixty-five days in a year.",
    "weeks are there in a year": "There are fifty-two weeks in a year.",
    "months are there in a year": "There are twelve months in a year.",
    "seasons are there": "There are four seasons: spring, summer, autumn and winter.",
    "letters are there in the alphabet": "There are twenty-six letters in the English alphabet.",
    "sides does a triangle have": "A triangle has three sides.",
    "sides does a square have": "A square has four sides.",
    "fingers do people have": "People have ten fingers.",
    "eyes do people have": "People have two eyes.",
    "wheels does a car have": "A car has four wheels.",
    "wheels does a bicycle have": "A bicycle has two wheels.",
    "legs does a spider have": "A spider has eight legs.",
    "years are there in a century": "There are one hundred years in a century.",
}

DEFINITIONS = {
    "river": "a long stream of fresh water that flows to the sea",
    "mountain": "a very high piece of land, much higher than a hill",
    "island": "a piece of land with water all around it",
    "desert": "a very dry place where little rain falls",
    "forest": "a large place with many trees",
    "lake": "a large area of water with land all around it",
    "village": "a small place in the country where people live",
    "city": "a very large town with many people and houses",
    "castle": "a large strong house where a king or a queen lived long ago",
    "bridge": "a way over a river or a road",
    "library": "a place where you can read and borrow books",
    "school": "a place where children learn",
    "hospital": "a place where doctors and nurses help sick people",
    "market": "a place where people buy and sell things",
    "garden": "a piece of land where flowers, fruit or vegetables grow",
    "ship": "a very large boat that sails on the sea",
    "train": "a row of carriages that runs on rails",
    "clock": "a machine that shows the time",
    "hammer": "a tool for driving nails into wood",
    "umbrella": "a thing you hold over your head to keep dry in the rain",
    "candle": "a stick of wax that gives light when it burns",
    "mirror": "a piece of glass in which you can see yourself",
    "piano": "a large instrument with black and white keys",
    "violin": "an instrument with four strings, played with a bow",
    "poem": "a short piece of writing that is often written in rhyme",
    "letter": "a message on paper that you send to somebody",
    "dream": "a story that your mind tells you while you sleep",
    "rainbow": "an arch of many colours that you see when sun and rain meet",
    "cloud": "a mass of tiny drops of water in the sky",
    "storm": "very bad weather with strong wind and rain",
    "star": "a ball of hot gas that shines far away in space",
    "planet": "a large ball that travels around a star",
    "king": "a man who rules a country",
    "queen": "a woman who rules a country, or the wife of a king",
    "prince": "the son of a king",
    "princess": "the daughter of a king",
    "friend": "a person you know well and like",
    "apple": "a round fruit that grows on a tree",
    "bread": "a food made from flour and water and baked in an oven",
    "honey": "a sweet food that bees make",
    "cheese": "a food made from milk",
    "coin": "a small round piece of metal that is used as money",
}

JOBS = {
    "baker": "bakes bread and cakes", "doctor": "helps people who are ill", "teacher": "teaches children at school",
    "farmer": "grows food and keeps animals", "tailor": "makes and mends clothes", "carpenter": "makes things from wood",
    "fisherman": "catches fish", "miller": "grinds corn into flour", "blacksmith": "makes things from iron",
    "gardener": "looks after plants", "cook": "prepares meals", "nurse": "looks after people who are ill",
    "painter": "paints pictures or walls", "sailor": "works on a ship", "soldier": "fights for a country",
    "shepherd": "looks after sheep", "shoemaker": "makes and mends shoes", "writer": "writes books",
    "singer": "sings songs", "pilot": "flies a plane", "judge": "decides in a court", "postman": "brings letters",
}  # fmt: skip

GROUPS = {
    "fruits": ["apples", "pears", "plums", "cherries", "grapes", "oranges", "bananas", "lemons"],
    "vegetables": ["carrots", "beans", "peas", "onions", "potatoes", "cabbages"],
    "animals": ["dogs", "cats", "horses", "foxes", "bears", "owls", "rabbits", "lions"],
    "birds": ["owls", "crows", "ducks", "geese", "swans", "eagles", "sparrows"],
    "farm animals": ["cows", "pigs", "sheep", "hens", "goats", "horses"],
    "colours": ["red", "blue", "green", "yellow", "white", "black", "orange", "purple"],
    "flowers": ["roses", "lilies", "tulips", "daisies", "violets"],
    "trees": ["oaks", "pines", "willows", "birches", "apple trees"],
    "tools": ["hammers", "saws", "knives", "axes", "spades"],
    "drinks": ["water", "tea", "milk", "coffee", "lemonade"],
    "jobs": ["baker", "doctor", "teacher", "farmer", "tailor", "sailor"],
    "clothes": ["shirts", "coats", "hats", "shoes", "gloves", "dresses"],
    "musical instruments": ["pianos", "violins", "drums", "flutes", "trumpets"],
    "countries": ["France", "Italy", "Spain", "Japan", "Egypt", "Canada"],
    "months": MONTHS,
    "days": DAYS,
}

BOOKS: list[tuple[str, str]] = [
    ("[who wrote little women|who is the author of little women]?", "Little Women was written by Louisa May Alcott."),
    ("[who are the sisters in little women|name the four sisters in little women][|?|.]", "The four sisters in Little Women are Meg, Jo, Beth and Amy."),
    ("[what is little women about|tell me about little women][|?|.]", "Little Women is about four sisters, Meg, Jo, Beth and Amy, who grow up while their father is away at war."),
    ("[who is jo|who is jo march]?", "Jo March is one of the four sisters in Little Women. She loves books and wants to be a writer."),
    ("[who wrote a connecticut yankee|who wrote a connecticut yankee in king arthur's court]?", "A Connecticut Yankee in King Arthur's Court was written by Mark Twain."),
    ("[what is a connecticut yankee about|tell me about a connecticut yankee][|?|.]", "It is about a man from America who wakes up in the time of King Arthur and his knights."),
    ("[who were the brothers grimm|who are the brothers grimm]?", "The Brothers Grimm were two German brothers who collected fairy tales."),
    ("[who is rapunzel|tell me about rapunzel][|?|.]", "Rapunzel is a girl with very long hair who lives in a high tower."),
    ("[who is snow white|tell me about snow white][|?|.]", "Snow White is a princess who lives with seven dwarfs, because the wicked queen wants to kill her."),
    ("[what is hansel and gretel about|who are hansel and gretel]?", "Hansel and Gretel are a brother and a sister who get lost in the forest and find the house of a witch."),
    ("[who is cinderella|what is cinderella about]?", "Cinderella is a poor girl who goes to the king's feast and marries the prince."),
    ("[who is red riding hood|what is red riding hood about|who is little red-cap]?", "She is a little girl with a red cap who meets a wolf on the way to her grandmother."),
    ("[what is the golden bird about|tell me about the golden bird][|?|.]", "It is a tale about a king's son who looks for a golden bird with the help of a fox."),
    ("[what is the frog prince about|tell me about the frog prince][|?|.]", "It is about a princess who must keep her promise to a frog, and the frog turns into a prince."),
]  # fmt: skip
