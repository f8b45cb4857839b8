"""A client of ``reward-router serve`` for trainers that call Python: one response, one reward.

A request that brings no answer is sent again under its own request id, so that it counts once
however often it arrives. Left out: everything that only a server's owner needs (`/v1/payoffs` is a
POST of one line, see ``docs/serve.md``).
"""

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

from reward_router.errors import InputError, RunError

URL = "REWARD_ROUTER_URL"
TOKEN = "REWARD_ROUTER_TOKEN"
PAUSE = 0.25
"""Seconds before the second try; each later pause is twice as long, up to 4 s."""
AT_A_TIME = 32
"""Requests of one batch that wait for an answer side by side."""


@dataclass(frozen=True)
class Given:
    """A reward with its receipt, as ``/v1/reward`` says it."""

    reward: float
    share: float
    arm: str
    decision_id: str
    propensity: float


class RouterClient:
    """Asks a server for rewards. Threads may share it.

    Args:
        url: of the server; None: the environment variable ``REWARD_ROUTER_URL``.
        token: what the server asks for; None: ``REWARD_ROUTER_TOKEN``, or nothing.
        seconds: how long a reward may take, all tries together.

    InputError without a URL, or without httpx.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, seconds: float = 120.0
    ) -> None:
        """Nothing is asked yet."""
        found = url or os.environ.get(URL)
        if not found:
            raise InputError(
                f"{URL} is not set; allowed the address of `reward-router serve`, such as "
                "http://127.0.0.1:8000"
            )
        if not seconds > 0:
            raise InputError(f"seconds={seconds}; allowed above 0")
        try:
            import httpx
        except ImportError:
            raise InputError("a client of the server needs httpx; pip install httpx") from None
        self.url = found.rstrip("/")
        self.seconds = seconds
        secret = token or os.environ.get(TOKEN)
        headers = {} if not secret else {"Authorization": f"Bearer {secret}"}
        self._http = httpx.Client(headers=headers, timeout=seconds)
        self._trouble = httpx.TransportError

    def reward(self, sample: Mapping[str, Any]) -> Given:
        """The reward of one response.

        Args:
            sample: ``prompt`` and ``response``, and what is known of ``label``, ``group``, ``size``
                and ``step`` (see ``POST /v1/reward``).

        InputError where the server refuses the request; RunError where it gave no answer in time.
        """
        body = {"request_id": uuid.uuid4().hex, **sample}
        answer = self._answer(body)
        return Given(
            reward=float(answer["reward"]),
            share=float(answer["share"]),
            arm=str(answer["arm"]),
            decision_id=str(answer["decision_id"]),
            propensity=float(answer["propensity"]),
        )

    def rewards(self, samples: Sequence[Mapping[str, Any]]) -> list[Given]:
        """The rewards of several responses in their order, asked side by side; as `reward`."""
        if not samples:
            return []
        with ThreadPoolExecutor(min(AT_A_TIME, len(samples))) as threads:
            return list(threads.map(self.reward, samples))

    def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        end = time.monotonic() + self.seconds
        pause = PAUSE
        while True:
            left = max(end - time.monotonic(), 0.001)
            try:
                reply = self._http.post(f"{self.url}/v1/reward", json=body, timeout=left)
            except self._trouble as error:
                why = f"{type(error).__name__}: {error}"
            else:
                if reply.status_code == 200:
                    answer: dict[str, Any] = reply.json()
                    return answer
                why = f"{reply.status_code}: {reply.text[:300]}"
                if reply.status_code < 500:
                    raise InputError(f"{self.url}/v1/reward refused the request: {why}")
            if time.monotonic() + pause >= end:
                raise RunError(
                    f"{self.url}/v1/reward gave no reward within {self.seconds:g} s ({why}); "
                    "nothing was invented in its place"
                )
            time.sleep(pause)
            pause = min(2 * pause, 4.0)


ENDS = ("</s>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>")
"""What ends a response of common models, where a trainer keeps special tokens."""


def without_end(text: str) -> str:
    """A response without the token that ends it.

    >>> without_end("4.<|im_end|>\\n")
    '4.'
    """
    trimmed = text.rstrip("\n")
    ended = next((end for end in ENDS if trimmed.endswith(end)), None)
    return text if ended is None else trimmed.removesuffix(ended)


def sample(prompt: Any, response: str, label: Any = None, **known: Any) -> dict[str, Any]:
    """A sample for `RouterClient.reward` from what a trainer has.

    Args:
        prompt: a text, or messages; of a message only role and content are sent.
        response: what the policy wrote.
        label: the right answer; anything but a text or a number is not sent.
        known: ``group``, ``size`` and ``step``; those that are None are left out.

    >>> sample([{"role": "user", "content": "Hi?", "token_ids": [1]}], "Hi.", None, size=None)
    {'prompt': [{'role': 'user', 'content': 'Hi?'}], 'response': 'Hi.'}
    """
    sent: dict[str, Any] = {"prompt": prompt, "response": response}
    if not isinstance(prompt, str):
        sent["prompt"] = [
            {"role": message["role"], "content": message["content"]} for message in prompt
        ]
    if isinstance(label, str | int | float):
        sent["label"] = label
    return sent | {name: value for name, value in known.items() if value is not None}


@cache
def shared_client(url: str | None = None, seconds: float = 120.0) -> RouterClient:
    """One client a server and process, for trainers that call a function; as `RouterClient`."""
    return RouterClient(url, seconds=seconds)
