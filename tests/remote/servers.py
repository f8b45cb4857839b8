"""A real HTTP server on this machine that speaks the dialects of reward model servers.

It misbehaves on request.

The model behind all dialects is one function: the score of a response is a number that its own text
names, or its length.
"""

import json
import math
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def worth(text):
    """The raw score of a text: 0.5 a letter, minus 3."""
    return 0.5 * len(text) - 3.0


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def last(chat):
    return chat[-1]["content"]


def classify(body):
    """vLLM and SGLang share the path; their bodies differ."""
    if "text" in body:
        return [{"embedding": [worth(text)]} for text in body["text"]]
    texts = [last(body["messages"])] if "messages" in body else body["input"]
    raw = body.get("use_activation") is False
    probs = [worth(text) if raw else sigmoid(worth(text)) for text in texts]
    rows = [
        {"index": i, "label": "LABEL_0", "probs": [p], "num_classes": 1}
        for i, p in enumerate(probs)
    ]
    return {
        "object": "list",
        "model": body.get("model"),
        "data": rows[::-1],
        "usage": {"prompt_tokens": 7 * len(texts)},
    }


def pooling(body):
    texts = [last(body["messages"])] if "messages" in body else body["input"]
    if body["task"] == "token_classify":
        return {
            "data": [{"index": i, "data": [[9.0], [-1.0], [worth(t)]]} for i, t in enumerate(texts)]
        }
    return {"data": [{"index": i, "data": [worth(t)]} for i, t in enumerate(texts)]}


def predict(body):
    assert body["raw_scores"] is True
    assert all(isinstance(each, list) for each in body["inputs"])
    return [
        [{"score": worth(each[-1]), "label": "good"}, {"score": 0.0, "label": "bad"}]
        for each in body["inputs"]
    ]


def get_reward(body):
    assert len(body["query"]) == len(body["prompts"]) == len(body["labels"])
    return {
        "rewards": [worth(q) for q in body["query"]],
        "scores": [0.0] * len(body["query"]),
        "extra_logs": {},
    }


def slime(body):
    assert set(body) == {"prompt", "response", "label"}
    return worth(body["response"])


def generic(body):
    return {"out": [{"score": worth(text)} for text in body["answers"]]}


def chat(body):
    """A judge that goes by length.

    It scores by length, compares by length, and prefers what comes first where lengths are near.
    """
    text = body["messages"][0]["content"]
    found = re.findall(r"<response(?:[ _]\w+)?>\n(.*?)\n</response", text, re.S)
    names = list(body["response_format"]["json_schema"]["schema"]["properties"])
    if names == ["better"]:
        a, b = found
        said = {"better": "A" if len(a) >= len(b) - 2 else "B"}
    else:
        texts = found if len(names) == len(found) else found * len(names)
        said = {name: max(1, min(10, len(t) // 4)) for name, t in zip(names, texts, strict=True)}
    message = {"role": "assistant", "content": json.dumps(said)}
    usage = {"prompt_tokens": 100, "completion_tokens": 20}
    return {
        "model": "judge-1",
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": usage,
    }


PATHS = {
    "/classify": classify,
    "/pooling": pooling,
    "/predict": predict,
    "/get_reward": get_reward,
    "/slime": slime,
    "/generic": generic,
    "/v1/chat/completions": chat,
}
PAGES = {
    "/version": {"version": "0.33.0"},
    "/info": {"model_id": "rm", "model_dtype": "float16", "version": "1.7.1"},
}


class Server:
    """What the server does now; tests change ``mode`` while it runs."""

    def __init__(self):
        self.mode, self.posts, self.headers, self.hang = "well", 0, [], threading.Event()
        self.pages = dict(PAGES)
        self.statuses = []

    def reply(self, path, body):
        """(status, content type, bytes, headers)."""
        if self.mode == "hang":
            self.hang.wait(30)
        if self.statuses:
            status = self.statuses.pop(0)
            if status != 200:
                return (
                    status,
                    "application/json",
                    b'{"error": "busy, key s3cr3t-key-value"}',
                    {"Retry-After": "0.01"},
                )
        texts = {
            "html": b"<html><body>It works!</body></html>",
            "nothing": b"",
            "broken": b'{"data": [',
            "nan": None,
        }
        if self.mode in texts and texts[self.mode] is not None:
            return (
                200,
                "text/html" if self.mode == "html" else "application/json",
                texts[self.mode],
                {},
            )
        if self.mode == "unauthorized":
            return (
                401,
                "application/json",
                b'{"error": "Incorrect API key provided: s3cr3t-key-value"}',
                {},
            )
        if self.mode == "too long" and len(json.dumps(body)) > 2000:
            return (
                400,
                "application/json",
                b'{"message": "maximum context length is 512 tokens"}',
                {},
            )
        answer = PATHS[path](body)
        if self.mode == "nan":
            answer = json.loads(re.sub(r"-?\d+\.\d+", "NaN", json.dumps(answer), count=1))
        if self.mode == "count":
            answer["data"] = answer["data"] + answer["data"]
        if self.mode == "sigmoid":
            answer = json.loads(
                re.sub(r"-?\d+\.\d+", lambda m: str(sigmoid(float(m[0]))), json.dumps(answer))
            )
        return 200, "application/json", json.dumps(answer).encode(), {}


@contextmanager
def serving(delay=0.0):
    """(Server, base URL) of a server in a thread of its own."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            page = state.pages.get(self.path)
            self.send(
                404 if page is None else 200, "application/json", json.dumps(page).encode(), {}
            )

        def do_POST(self):
            state.posts += 1
            state.headers.append(dict(self.headers))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if delay:
                time.sleep(delay)
            self.send(*state.reply(self.path, body))

        def send(self, status, kind, content, headers):
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # the client gave up
                self.close_connection = True

        def log_message(self, *args):
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request, client_address):
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield state, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        state.hang.set()
        server.shutdown()
        server.server_close()
