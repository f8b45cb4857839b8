"""Reward models in deployments of Ray Serve, and the door through which the router asks them.

A replica that dies is replaced by Ray; whoever asked it asks the next one. Asking again is safe:
a score is written into the ledger where it arrives, and nowhere else.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.exceptions import RayActorError

from reward_router.assemble import check_arms
from reward_router.chat import Prompt
from reward_router.config import PoolConfig
from reward_router.errors import InputError
from reward_router.rewards.configured import arm_pool
from reward_router.rewards.request import ArmRequest, ScoreResult, exception_in_line
from reward_router.rewards.spec import ArmSpec
from reward_router.server.build import Turns
from reward_router.server.ray.places import Group

PAUSE = 0.2
"""Seconds before a request whose replica died is sent again."""


@dataclass(frozen=True)
class Held:
    """What a replica has to know: arms, and how models are held.

    Args:
        specs: the arms, by the group that they belong to.
        pool: the section ``pool`` of the configuration.
        device: where models run if ``pool.device`` is auto.
    """

    specs: Mapping[str, tuple[ArmSpec, ...]]
    pool: PoolConfig
    device: str

    def load(self, group: str) -> Turns:
        """The arms of a group, with their model in memory.

        InputError where one cannot be had.
        """
        specs = self.specs[group]
        pool = arm_pool(specs, self.pool, self.device)
        check_arms(specs, pool)
        for spec in specs:
            pool.load(spec.name)
        return Turns(pool, specs)


class OneModel:
    """A deployment of one model: every replica loads it before it takes requests."""

    def __init__(self, held: Held) -> None:
        """An arm that cannot be had makes no error here: Ray would start it again for ever."""
        [group] = held.specs
        self.error = ""
        try:
            self.arms = held.load(group)
        except Exception as error:
            self.error = exception_in_line(error)

    async def unready(self, group: str) -> str:
        """Why the group's arms cannot be had, '' where they can."""
        return self.error

    async def score(
        self, arm: str, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> ScoreResult:
        """What the arm says."""
        if self.error:
            return ArmRequest.of(prompts, responses).failed(arm, "failed", self.error, 0.0, 0.0)
        return await asyncio.to_thread(self.arms.score, arm, prompts, responses)


class ManyModels:
    """A deployment of many models: a replica holds a few, and the least recently used leaves.

    Ray Serve sends a request to a replica that has its group's model, where there is one.
    """

    def __init__(self, held: Held, models: int) -> None:
        """``models``: so many are loaded at a time."""

        async def load(group: str) -> Turns:
            return await asyncio.to_thread(held.load, group)

        self._loaded = serve.multiplexed(max_num_models_per_replica=models)(load)

    async def unready(self, group: str) -> str:
        """Why the group's arms cannot be had, '' where they can."""
        try:
            await self._loaded(group)
        except Exception as error:
            return exception_in_line(error)
        return ""

    async def score(
        self, arm: str, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> ScoreResult:
        """What the arm says; its model is loaded where it is not there."""
        began = time.perf_counter()
        try:
            arms = await self._loaded(serve.get_multiplexed_model_id())
        except Exception as error:
            seconds = time.perf_counter() - began
            ask = ArmRequest.of(prompts, responses)
            return ask.failed(arm, "failed", exception_in_line(error), 0.0, seconds)
        return await asyncio.to_thread(arms.score, arm, prompts, responses)


def handle_of(group: Group, place: tuple[str, str]) -> Any:
    """By which the group's arms are asked, in the (application, deployment) that holds them."""
    app, deployment = place
    handle = serve.get_deployment_handle(deployment, app)
    if group.own:
        return handle
    return handle.options(multiplexed_model_id=group.name)


class Elsewhere:
    """A pool whose arms are in deployments; arms of the router's own process are asked there.

    Args:
        names: all arms, in the order of the configuration.
        handles: of the deployments, by arm.
        here: the others.
        timeout: seconds that an answer may take, with waiting for a replica; None: no limit.
    """

    def __init__(
        self,
        names: Sequence[str],
        handles: Mapping[str, Any],
        here: Turns,
        timeout: float | None,
    ) -> None:
        """Nothing is asked yet."""
        self.names = list(names)
        self._handles = handles
        self._here = here
        self._timeout = timeout

    def order(self, arms: Iterable[str]) -> list[str]:
        """The arms as they are configured: none has to be loaded first."""
        wanted = set(arms)
        return [name for name in self.names if name in wanted]

    def score(
        self, arm: str, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> ScoreResult:
        """What the arm says, from the first replica that lives long enough to say it."""
        if arm not in self._handles:
            return self._here.score(arm, prompts, responses)
        if len(prompts) != len(responses):
            raise InputError(f"{len(prompts)} prompts but {len(responses)} rows of responses")
        began = time.monotonic()
        while True:
            left = None
            if self._timeout is not None:
                left = max(0.001, began + self._timeout - time.monotonic())
            try:
                reply = self._handles[arm].score.remote(arm, prompts, responses)
                result: ScoreResult = reply.result(timeout_s=left)
            except TimeoutError:
                ask = ArmRequest.of(prompts, responses)
                why = f"no replica answered within {self._timeout:g} s"
                return ask.failed(arm, "timeout", why, time.monotonic() - began, 0.0)
            except RayActorError:
                time.sleep(PAUSE)
            except Exception as error:
                ask = ArmRequest.of(prompts, responses)
                return ask.failed(
                    arm, "failed", exception_in_line(error), time.monotonic() - began, 0.0
                )
            else:
                return result
