"""The endpoints: what comes in is checked, the desk is asked, and what it says goes out.

Every refusal has one form, ``{"error": one line, "field": where}``; bad input never ends in a 5xx.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException

from reward_router import __version__
from reward_router.server.desk import Desk
from reward_router.server.dialect import Dialect
from reward_router.server.dialects import dialects
from reward_router.server.gate import Gate
from reward_router.server.groups import Groups
from reward_router.server.messages import JudgeRequest, PayoffsRequest, RouteRequest, ScoreRequest
from reward_router.server.metrics import Requests, exposition
from reward_router.server.refusal import Refused
from reward_router.server.replies import (
    JudgeReply,
    PayoffsReply,
    Problem,
    RouteReply,
    ScoreReply,
    State,
)
from reward_router.server.scoring import score as score_responses
from reward_router.server.shortcut import Endpoint, Shortcut
from reward_router.strict_json import dumps

log = logging.getLogger(__name__)
Responses = dict[int | str, dict[str, Any]]


@dataclass(frozen=True)
class Access:
    """Who may ask, and how much at once.

    Args:
        token: what clients send as ``Authorization: Bearer``; None: everybody may ask.
        max_body: bytes of a request.
    """

    token: str | None = None
    max_body: int = 8 * 2**20


def application(desk: Desk, groups: Groups, access: Access) -> Any:
    """The server as an ASGI application; when it stops it closes the desk."""
    requests = Requests()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="reward-router",
        version=__version__,
        description="Chooses which reward model judges, and learns from what came of it.",
        docs_url=None,  # its pages would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    _refusals(app)
    endpoints = _work(app, desk)
    for dialect in dialects():
        endpoints[dialect.path] = _speak(app, dialect, groups)
    _looks(app, desk, groups, requests)
    # the last one is asked first
    app.add_middleware(Shortcut, endpoints=endpoints, refused=refusal_reply, at_once=desk.at_once)
    app.add_middleware(Gate, token=access.token, max_body=access.max_body)
    app.add_middleware(requests.counting)
    return app


def problems(*statuses: int) -> Responses:
    """How OpenAPI describes refusals of these statuses."""
    always = (400, 401, 413, 422, 503)
    return {status: {"model": Problem} for status in sorted({*always, *statuses})}


def reply(answer: Any, status: int = 200) -> Response:
    """An answer as strict JSON."""
    return Response(dumps(answer), status, media_type="application/json")


def refusal_reply(error: Refused) -> Response:
    """The one form of a refusal."""
    answer = reply({"error": error.message, "field": error.field}, error.status)
    if error.status == 503:
        answer.headers["Retry-After"] = "1"
    return answer


def _work(app: FastAPI, desk: Desk) -> dict[str, Endpoint]:
    """The stable endpoints, by path."""

    @app.post("/v1/judge", response_model=JudgeReply, responses=problems(409))
    def judge(body: JudgeRequest) -> Response:
        """Route every prompt to an arm, have it score the responses, and record both."""
        return reply(desk.judge(body.asked()))

    @app.post("/v1/route", response_model=RouteReply, responses=problems(409))
    def route(body: RouteRequest) -> Response:
        """Only choose arms and record the decisions."""
        return reply(desk.route(body.asked()))

    @app.post("/v1/score", response_model=ScoreReply, responses=problems(404, 409))
    def score(body: ScoreRequest) -> Response:
        """Scores by one arm, or by the arms of decisions."""
        return reply(score_responses(desk, body.asked(), body.arm, body.decision_ids))

    @app.post("/v1/payoffs", response_model=PayoffsReply, responses=problems(404, 409))
    def payoffs(body: PayoffsRequest) -> Response:
        """What decisions earned: the router learns. The same payoff again changes nothing."""
        return reply({"new": desk.pay(body.pairs(), body.source, body.raw)})

    return {
        "/v1/judge": judge,
        "/v1/route": route,
        "/v1/score": score,
        "/v1/payoffs": payoffs,
    }


def _speak(app: FastAPI, dialect: Dialect, groups: Groups) -> Endpoint:
    """One endpoint for one dialect."""

    def endpoint(body: Any) -> Response:
        return reply(dialect.answer(body, groups))

    endpoint.__annotations__["body"] = dialect.body
    endpoint.__doc__ = dialect.sentence
    endpoint.__name__ = dialect.path.strip("/").replace("/", "_")
    add = app.post(dialect.path, response_model=dialect.reply, responses=problems(409))
    add(endpoint)
    return endpoint


def _looks(app: FastAPI, desk: Desk, groups: Groups, requests: Requests) -> None:
    @app.get("/healthz", response_model=State)
    async def healthz() -> Response:
        """Whether the process answers."""
        return reply({"status": "ok"})

    @app.get("/readyz", response_model=State, responses={503: {"model": Problem}})
    def readyz() -> Response:
        """Whether prompts can be judged now."""
        why = desk.unready()
        if why:
            raise Refused(503, why)
        return reply({"status": "ready"})

    @app.get("/metrics", response_class=PlainTextResponse, responses={401: {"model": Problem}})
    def metrics() -> PlainTextResponse:
        """Figures in the text form of Prometheus."""
        return PlainTextResponse(exposition(desk, groups, requests))


def _refusals(app: FastAPI) -> None:
    """One form for everything that is refused."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return refusal_reply(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        sent = request.headers.get("content-type", "none")
        # what curl sends where nobody says otherwise
        if first["type"] != "json_invalid" and not sent.startswith("application/json"):
            line = f"content-type: it is {sent!r}; allowed application/json, and JSON in the body"
            return reply({"error": line, "field": ""}, 422)
        if first["type"] == "json_invalid":
            why = first.get("ctx", {}).get("error", "it cannot be read")
            place = first["loc"][-1]
            return reply({"error": f"body: no JSON at character {place}: {why}", "field": ""}, 400)
        field = ".".join(str(part) for part in first["loc"][1:])
        why = first["msg"].removeprefix("Value error, ")
        line = " ".join(f"{field or 'body'}: {why}".split())
        return reply({"error": line, "field": field}, 422)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        line = str(error.detail)
        if error.status_code == 400:  # FastAPI gave up on the body, and says no more
            line = "body: it cannot be read as JSON; is it nested very deeply?"
        answer = reply({"error": line, "field": ""}, error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        log.exception("a request could not be answered", exc_info=error)
        line = f"the server failed: {type(error).__name__}; its log says more"
        return reply({"error": line, "field": ""}, 500)
