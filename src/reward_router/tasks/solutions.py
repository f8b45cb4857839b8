"""Patterns of responses that the rules accept: what supervised training is given as gold answers.

They are written once for a whole category and filled in by topic, so they are plainer and more
alike than answers that people write. Facts, sums and the past tense have answers of their own.
"""

FACTS = ("{answer}.", "The answer is {answer}.")

TOPICS: dict[str, tuple[str, ...]] = {
    "include": (
        "The {one} and the {two} both belong to {topic}.",
        "When I think of {topic}, I think of the {one} and the {two}.",
    ),
    "exclude": (
        "It is something that many of us enjoy, each in their own way.",
        "It is one of those things that we remember for years.",
    ),
    "short": ("A small story about {topic}.", "All we love about {topic}."),
    "long": (
        "There is a great deal to say about {topic}, and most of us remember it fondly, because "
        "it brings old friends and the whole family together.",
        "Nobody forgets {topic} in a hurry, because there is always something new to notice, and "
        "somebody to tell about it when the day is over.",
    ),
    "question": (
        "I was just thinking about {topic}. What do you like best about it?",
        "I could talk about {topic} all day. Would you like to hear more?",
    ),
    "number": (
        "There are 3 good reasons to love {topic}.",
        "I have 12 favourite memories of {topic}.",
    ),
    "title": ("The Story of {headline}", "All About {headline}"),
    "exclaim": (
        "I just love {topic}, it makes me so happy!",
        "There is nothing in the world like {topic}!",
    ),
}
_SMALL = frozenset(("a", "an", "the", "and", "of", "in", "on", "at", "to", "for", "with", "from"))


def title_case(topic: str) -> str:
    """A topic as it stands in a title: small words stay small.

    >>> title_case("a walk in the forest")
    'a Walk in the Forest'
    """
    return " ".join(word if word in _SMALL else word.capitalize() for word in topic.split())
