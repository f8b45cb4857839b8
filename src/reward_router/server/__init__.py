"""``reward-router serve``: one small server for every trainer that can send a request.

It is a thin door to a `Session`. ``desk`` judges, routes, scores and pays; ``groups`` keeps prompt
groups for trainers that send one response at a time; ``dialects`` speak as those trainers do;
``app`` is the HTTP of it. The ledger is the state: what was acknowledged is in it, and a server
that is started again on it is the same router. FastAPI and uvicorn come with the extra ``serve``.

Left out: a dashboard, roles, stores other than SQLite, and more than one process on one ledger.
"""
