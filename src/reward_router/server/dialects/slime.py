"""slime (``--rm-url http://host:port/slime``): one sample a request, answered by a JSON number.

There is no group and no step. slime tries ten times and then raises, so a response that nobody
could score gets its group's mean.
"""

from reward_router.server.dialect import Dialect, Label, Spoken
from reward_router.server.fields import PromptField
from reward_router.server.group import Sample
from reward_router.server.groups import Groups


class OneSample(Spoken):
    """A prompt, a response and its label."""

    prompt: PromptField
    response: str
    label: Label = None


def answer(body: OneSample, groups: Groups) -> float:
    """The calibrated reward."""
    return groups.reward(Sample(body.prompt, body.response, body.label)).value


DIALECT = Dialect("/slime", OneSample, answer, float, "slime's --rm-url: a number.")
