"""``reward-router serve --ray``: starts what is missing in Ray, answers HTTP, ends it all well."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from reward_router.assemble import arm_specs, check_arms
from reward_router.config import Config
from reward_router.errors import InputError
from reward_router.rewards.configured import arm_pool
from reward_router.rewards.spec import check_spec
from reward_router.server.build import fitting
from reward_router.server.gate import Gate
from reward_router.server.ray.places import groups_of, here
from reward_router.server.run import Place, answer, check_packages, listener_at

CLOSING = 60
"""Seconds that the router has for its snapshot."""
SEEN = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers")
"""What of a request's scope the router is told."""


def serve(config: Config, place: Place, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; then the router and the deployments end, too.

    InputError for a configuration, a place or an arm that cannot be right; RunError where the port
    is taken or Ray cannot be reached.
    """
    check_packages()
    try:
        import ray

        from reward_router.server.ray import deploy
    except ImportError as error:
        raise InputError(
            f"serve --ray needs Ray Serve ({error.name} is missing); "
            "pip install 'reward-router[ray]'"
        ) from None
    token = place.token()
    place = replace(place, ledger=place.ledger.resolve())
    settled = fitting(config)
    for spec in arm_specs(settled):
        check_spec(spec)
    groups = groups_of(settled)
    specs = here(settled, groups)
    check_arms(specs, arm_pool(specs, settled.pool, settled.policy.device))
    with listener_at(place.host, place.port) as listener:
        deploy.connect(settled, groups, say)
        deploy.check_free(settled, place)
        router = None
        try:
            deployments = deploy.deploy(settled, groups)
            router = deploy.router_of(settled, place, groups, deployments)
            events = deploy.asked(router.begin.remote(settled, place))
            say(f"ledger   {place.ledger} ({events} events)")
            answer(Gate(Door(router), token, place.max_body), listener, say)
            deploy.asked(router.close.remote(), CLOSING)
        finally:
            if router is not None:
                ray.kill(router)
            deploy.undeploy(settled, groups)
            ray.shutdown()
    say("stopped")


class Door:
    """ASGI: hands every request to the router, which may be starting again meanwhile.

    It stands behind a `Gate`, which has looked at the token and read the body whole.

    Args:
        router: the actor.
    """

    def __init__(self, router: Any) -> None:
        """It knows nothing that would be lost with it."""
        self.router = router

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        from ray.exceptions import RayError

        from reward_router.server.ray.router import unavailable

        if scope["type"] != "http":
            return
        message = await receive()
        seen = {key: scope[key] for key in SEEN if key in scope}
        try:
            status, headers, body = await self.router.answer.remote(seen, message["body"])
        except RayError as error:
            why = f"the router does not answer ({type(error).__name__}); send the request again"
            status, headers, body = unavailable(why)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
