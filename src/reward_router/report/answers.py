"""Report section with responses to look at: held-out prompts whose answers changed.

The reader filters them by category and direction.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from reward_router import keyed
from reward_router.headline import MEASURED
from reward_router.report.frame import cut
from reward_router.report.gather import Evidence, Json
from reward_router.report.page import note

SHOWN = 10
EACH = 6
"""At most so many prompts of one category and direction are in the page at all."""
LONG = 420
DIRECTIONS = {
    "better": "\u25b2 better",
    "worse": "\u25bc worse",
    "same": "\u25a0 as right as before",
}


@dataclass(frozen=True)
class ChangedAnswer:
    """One prompt and sample whose response is another after training.

    Gold is None where nobody knows it.
    """

    category: str
    prompt: str
    before: Json
    after: Json

    @property
    def id(self) -> str:
        """The prompt's id."""
        return str(self.before["id"])

    @property
    def direction(self) -> str:
        """better, worse or same, by gold."""
        first = self.before.get("gold") or 0.0
        second = self.after.get("gold") or 0.0
        return "better" if second > first else "worse" if second < first else "same"


def changed(samples: Sequence[Json]) -> tuple[list[ChangedAnswer], int]:
    """Responses that are not what they were, and how many pairs were compared.

    They are of the kind that the headline is about.
    """
    for kind in MEASURED:
        sides: Mapping[str, dict[tuple[str, int], Json]] = {"before": {}, "after": {}}
        for row in samples:
            if row.get("kind") == kind and row["when"] in sides:
                sides[row["when"]][row["id"], row.get("sample", 0)] = row
        both = sorted(sides["before"].keys() & sides["after"].keys())
        if both:
            pairs = [(sides["before"][key], sides["after"][key]) for key in both]
            differing = [
                ChangedAnswer(before.get("category") or "", _text(before["prompt"]), before, after)
                for before, after in pairs
                if before["response"] != after["response"]
            ]
            return differing, len(both)
    return [], 0


def picked(candidates: Sequence[ChangedAnswer]) -> list[ChangedAnswer]:
    """Which of them the page holds, evenly over categories and directions.

    They are drawn at random, but always the same ones. Those whose gold changed come first; of one
    prompt there is one sample.
    """

    def turn(changed: ChangedAnswer) -> tuple[bool, float]:
        return changed.direction == "same", keyed.uniform(0, "eval", 0, changed.id)

    groups: defaultdict[tuple[str, str], list[ChangedAnswer]] = defaultdict(list)
    prompts: set[str] = set()
    for changed in sorted(candidates, key=turn):
        group = groups[changed.direction, changed.category]
        has_room = len(group) < EACH
        if changed.id not in prompts and has_room:
            group.append(changed)
            prompts.add(changed.id)

    chosen = []
    # One of each group in turn, so that the first ten already show every category.
    for place in range(EACH):
        chosen += [group[place] for group in groups.values() if place < len(group)]
    return sorted(chosen, key=lambda changed: changed.direction == "same")


def changed_answers(e: Evidence) -> str:
    """Ten changed responses, and a filter that brings others up."""
    candidates, compared = changed(e.samples)
    if not compared:
        return ""
    if not candidates:
        return note(
            f"All {compared:,} responses to held-out prompts are what they were before training."
        )
    shown = picked(candidates)
    count = Counter(c.direction for c in candidates)
    moved = ""
    if any(c.after.get("gold") is not None for c in candidates):
        moved = (
            f": {count['better']:,} went from wrong to right, "
            f"{count['worse']:,} from right to wrong"
        )
    what = (
        f"{len(candidates):,} of {compared:,} responses to held-out prompts are others than before "
        f"training{moved}. Drawn at random, evenly from categories; all are in samples.jsonl."
    )
    items = "".join(_answer(c, hidden=i >= SHOWN) for i, c in enumerate(shown))
    return (
        f'{note(what)}<div class="filtered" data-most="{SHOWN}">{_filter(shown)}'
        f'<div class="answers">{items}</div></div>'
    )


def _filter(shown: Sequence[ChangedAnswer]) -> str:
    categories = sorted({changed.category for changed in shown} - {""})
    present = {changed.direction for changed in shown}
    directions = {name: text for name, text in DIRECTIONS.items() if name in present}

    parts = [_select("direction", "all directions", directions)]
    # A choice of one would change nothing.
    if len(categories) > 1:
        parts.append(_select("category", "all categories", {name: name for name in categories}))

    most = min(SHOWN, len(shown))
    count = f'<span class="count">{most} of {len(shown)} shown</span>'
    return f'<div class="filter">{"".join(parts)}{count}</div>'


def _select(name: str, everything: str, options: Mapping[str, str]) -> str:
    drawn = "".join(
        f'<option value="{escape(key)}">{escape(text)}</option>' for key, text in options.items()
    )
    first = f'<option value="">{everything}</option>'
    return f'<label>{name} <select name="{name}">{first}{drawn}</select></label>'


def _answer(c: ChangedAnswer, hidden: bool) -> str:
    marks = {"better": "\u25b2", "worse": "\u25bc", "same": "\u25a0"}
    data = f'data-category="{escape(c.category)}" data-direction="{c.direction}"'
    data += " hidden" if hidden else ""
    head = f"{marks[c.direction]} {c.category}: " if c.category else f"{marks[c.direction]} "
    question = f"{escape(head)}{escape(cut(c.prompt, LONG))}"
    return (
        f'<div class="answer {c.direction}" {data}><div class="q">{question}</div>'
        f"{_side('before', c.before)}{_side('after', c.after)}</div>"
    )


def _side(when: str, row: Json) -> str:
    gold = row.get("gold")
    checked = ""
    if gold is not None:
        checked = " \u2713 right" if gold >= 1 else " \u2717 wrong"

    judged = ""
    if row.get("arm"):
        score = row.get("score")
        scored = "" if score is None else f" scored it {score:.3g}"
        judged = f" \u00b7 {row['arm']}{scored}"

    mark = "" if row.get("finished", True) else ' class="cut"'
    one_line = " ".join(str(row["response"]).split())
    text = escape(cut(one_line, LONG)) or "<i>(empty)</i>"
    who = f'<span class="who">{when}{checked}{escape(judged)}:</span>'
    return f'<div class="side">{who} <span{mark}>{text}</span></div>'


def _text(prompt: object) -> str:
    """A prompt as one line; of a conversation its last message."""
    if isinstance(prompt, list) and prompt and isinstance(prompt[-1], dict):
        return " ".join(str(prompt[-1].get("content", "")).split())
    return " ".join(str(prompt).split())
