"""Tool calls reach every arm.

They come in the template's own words, or as JSON text where there is no template or it knows none.
"""

from typing import Any

import pytest

from reward_router.chat import Reply
from reward_router.rewards import template
from reward_router.rewards.metric import Metric

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
TEXT = '{"name": "weather", "arguments": {"city": "Oslo"}}'
KNOWS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}"
    "[call {{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PASSES_OVER = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


class Tokenizer:
    """A tokenizer's template and nothing else."""

    eos_token = "</s>"

    def apply_chat_template(
        self,
        chat: list[dict[str, Any]],
        tokenize: bool,
        add_generation_prompt: bool,
        chat_template: str,
    ) -> str:
        from jinja2 import Environment

        made = Environment().from_string(chat_template)
        return made.render(messages=chat, add_generation_prompt=add_generation_prompt)


def reply(content: str = "") -> Reply:
    return Reply({"role": "assistant", "content": content, "tool_calls": [CALL]})


@pytest.mark.parametrize(
    ("jinja", "written"), [(KNOWS, '[call weather {"city": "Oslo"}]'), (PASSES_OVER, TEXT)]
)
def test_a_response_with_a_call_is_rendered_and_continued(jinja: str, written: str) -> None:
    pytest.importorskip("jinja2")
    asked = template.prompt_messages("Weather?")
    whole = template.render_chat(
        Tokenizer(), [*asked, template.answered(reply())], jinja, generate=False
    )
    assert whole == f"<user>Weather?</s><assistant>{written}</s>"
    assert template.continuation(Tokenizer(), asked, reply(), jinja) == written
    assert template.continuation(Tokenizer(), asked, "Fine.", jinja) == "Fine."


@pytest.mark.parametrize(
    ("jinja", "written"), [(KNOWS, "[call weather"), (PASSES_OVER, '"name": "weather"')]
)
def test_calls_in_the_prompt_are_not_lost(jinja: str, written: str) -> None:
    pytest.importorskip("jinja2")
    called = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    history = [{"role": "user", "content": "Weather?"}, called, {"role": "tool", "content": "12 C"}]
    text = template.render_chat(
        Tokenizer(), template.prompt_messages(history), jinja, generate=True
    )
    assert written in text
    assert "12 C" in text


def test_an_arm_without_a_template_reads_json_text() -> None:
    assert reply("I look.") == f"I look.\n{TEXT}"
    short = Metric(metric="length", direction="short")
    scores = short.score(["Weather?"], [[reply(), "Fine."]])
    assert scores.shape == (1, 2)
    assert scores[0, 0] < scores[0, 1]
