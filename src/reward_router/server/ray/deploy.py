"""Starting things in Ray: a connection, the reward models' deployments, the router's actor."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from reward_router.config import Config
from reward_router.errors import InputError, RewardRouterError, RunError
from reward_router.server.ray.models import Held, ManyModels, OneModel, handle_of
from reward_router.server.ray.places import Group
from reward_router.server.ray.router import Router
from reward_router.server.run import Place

NAMESPACE = "reward-router"
"""Where the actor is found: ``ray.get_actor(name, namespace=NAMESPACE)``."""
SHARED = "shared"
ONGOING = 2
"""Requests that a replica has at a time: one that is worked on, and the next one.

More would wait at a busy replica while another one is free.
"""
Say = Callable[[str], None]
Deployments = dict[str, tuple[str, str]]
"""(application, deployment) of each group, by its name."""


def connect(config: Config, groups: Sequence[Group], say: Say) -> None:
    """Join the Ray of ``RAY_ADDRESS``, or that of this machine, or start one here.

    RunError where that fails.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Processes of a Ray that is started here can then import what can be imported here.
    paths = [os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        ray.init(
            namespace=NAMESPACE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        serve.start(http_options={"location": "NoServer"})
    except Exception as error:  # where Ray starts too slowly it raises no narrower one
        why = " ".join(str(error).split())
        raise RunError(f"Ray cannot be reached or started: {why}") from None
    have = ray.cluster_resources()
    cpus, gpus = _wanted(config, groups, have)
    say(f"Ray      {have.get('CPU', 0):g} CPUs, {have.get('GPU', 0):g} GPUs")
    if cpus > have.get("CPU", 0) or gpus > have.get("GPU", 0):
        say(
            f"warning: the arms ask for {cpus:g} CPUs and {gpus:g} GPUs; what Ray does not have "
            "yet is waited for (arms.N.ray and ray say how much)"
        )


def check_free(config: Config, place: Place) -> None:
    """InputError where a router of this name runs with another configuration or ledger."""
    try:
        router = ray.get_actor(config.ray.name, namespace=NAMESPACE)
    except ValueError:  # there is none
        return
    asked(router.begin.remote(config, place))


def deploy(config: Config, groups: Sequence[Group]) -> Deployments:
    """Start the deployments, and wait until every arm can be had.

    InputError where one cannot.
    """
    have = ray.cluster_resources()
    deployments: Deployments = {}
    for group in groups:
        if group.own:
            needs = {"num_cpus": group.cpus, "num_gpus": _gpus_of(group, have)}
            model = _deployment(OneModel, group.name, group.replicas, needs)
            bound = model.bind(_held(config, [group]))
            deployments[group.name] = _run(config, group.name, bound)
    shared = [group for group in groups if not group.own]
    if shared:
        asked = config.ray
        needs = {"num_cpus": asked.cpus, "num_gpus": asked.gpus}
        models = _deployment(ManyModels, SHARED, asked.replicas, needs)
        bound = models.bind(_held(config, shared), asked.models)
        place = _run(config, SHARED, bound)
        deployments |= {group.name: place for group in shared}
    for group in groups:
        handle = handle_of(group, deployments[group.name])
        why = handle.unready.remote(group.name).result()
        if why:
            named = ", ".join(repr(spec.name) for spec in group.specs)
            raise InputError(f"arms {named} cannot be built in Ray: {why}")
    return deployments


def router_of(
    config: Config, place: Place, groups: Sequence[Group], deployments: Mapping[str, Any]
) -> Any:
    """The actor of this name: the one that runs, or a new one on this machine.

    Its ledger is a file of this machine, so it is started again here and nowhere else.
    """
    on_this_node = NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    options = ray.remote(Router).options(
        name=config.ray.name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy=on_this_node,
    )
    return options.remote(config, place, list(groups), dict(deployments))


def undeploy(config: Config, groups: Sequence[Group]) -> None:
    """End the deployments, those that never started included.

    What takes longer than a minute goes on ending by itself.
    """
    names = {_app(config, group.name if group.own else SHARED) for group in groups}
    for name in sorted(names):
        with suppress(TimeoutError, RayError):
            serve.delete(name)


def asked(reference: Any, seconds: float | None = None) -> Any:
    """What a task of Ray returns, within so many seconds.

    Errors of this library come out as they went in.
    """
    try:
        return ray.get(reference, timeout=seconds)
    except RayTaskError as error:
        if isinstance(error.cause, RewardRouterError):
            raise error.cause from None
        raise RunError(f"the router in Ray failed: {error.cause!r}") from error
    except RayError as error:
        raise RunError(f"the router in Ray does not answer: {error}") from error


def _deployment(what: type, name: str, replicas: int, needs: dict[str, float]) -> Any:
    return serve.deployment(
        what,
        name=name,
        num_replicas=replicas,
        ray_actor_options=needs,
        max_ongoing_requests=ONGOING,
    )


def _held(config: Config, groups: Sequence[Group]) -> Held:
    specs = {group.name: group.specs for group in groups}
    return Held(specs, config.pool, config.policy.device)


def _run(config: Config, name: str, bound: Any) -> tuple[str, str]:
    """Start an application of one deployment, and wait until it takes requests."""
    app = _app(config, name)
    serve.run(bound, name=app, route_prefix=None)
    return app, name


def _app(config: Config, name: str) -> str:
    return f"{config.ray.name}-{name}"


def _wanted(
    config: Config, groups: Sequence[Group], have: Mapping[str, float]
) -> tuple[float, float]:
    """CPUs and GPUs of all replicas together."""
    cpus = sum(group.replicas * group.cpus for group in groups if group.own)
    gpus = sum(group.replicas * _gpus_of(group, have) for group in groups if group.own)
    if any(not group.own for group in groups):
        cpus += config.ray.replicas * config.ray.cpus
        gpus += config.ray.replicas * config.ray.gpus
    return cpus, gpus


def _gpus_of(group: Group, have: Mapping[str, float]) -> float:
    if group.gpus is not None:
        return group.gpus
    return 1.0 if have.get("GPU", 0) >= 1 else 0.0
