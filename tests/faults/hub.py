"""A stand-in for the Hub: one small model and one small data set, or one of the Hub's bad days."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL, DATA, COMMIT = "owner/small", "owner/texts", "1" * 40
SLOW_SECONDS = 90
STATUS = {"401": 401, "404": 404, "429": 429, "500": 500}


class Hub:
    """What is served, and how.

    Attributes:
        folder: of the model's files.
        mood: `good`; `401`, `404`, `429`, `500`; `html` (a page of a proxy with status 200);
            `slow`; `cut` (the weights end early); `long` (more weights than were promised).
        asked: the paths that were asked for.
    """

    def __init__(self, folder: Path, mood: str):
        self.folder = folder
        self.mood = mood
        self.asked: list[str] = []
        self.over = threading.Event()


@contextmanager
def serving(folder: Path, mood: str):
    """Yields the Hub and its address."""
    hub = Hub(folder, mood)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        hub.over.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def answer(self):
        hub, path = self.hub, self.path.partition("?")[0]
        hub.asked.append(path)
        if hub.mood == "slow":
            hub.over.wait(SLOW_SECONDS)
        if hub.mood in STATUS:
            error = {"401": "GatedRepo" if "gated" in path else "RepoNotFound",
                     "404": "RepoNotFound"}.get(hub.mood)  # fmt: skip
            return self.send(STATUS[hub.mood], b'{"error": "a bad day"}', {"X-Error-Code": error})
        if hub.mood == "html":
            return self.send(200, b"<html><body>Please log in to the network</body></html>",
                             {"Content-Type": "text/html"})  # fmt: skip
        if path == f"/api/models/{MODEL}" or path.startswith(f"/api/models/{MODEL}/revision/"):
            return self.send_json(self.description())
        if f"/{MODEL}/tree/" in path or f"/{MODEL}/paths-info/" in path:
            return self.send_json([])
        if f"/{MODEL}/resolve/" in path:
            return self.send_file(hub.folder / path.rpartition("/")[2])
        return self.send(404, b'{"error": "nothing here"}', {"X-Error-Code": "RepoNotFound"})

    def description(self):
        names = sorted(p.name for p in self.hub.folder.iterdir())
        return {"id": MODEL, "modelId": MODEL, "sha": COMMIT, "private": False, "tags": [],
                "downloads": 0, "siblings": [{"rfilename": name} for name in names]}  # fmt: skip

    def send_file(self, path: Path):
        if not path.is_file():
            return self.send(404, b"Entry not found", {
                "X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})  # fmt: skip
        content, promised = path.read_bytes(), None
        if path.suffix == ".safetensors" and self.command == "GET":
            if self.hub.mood == "cut":
                content, promised = content[: len(content) // 2], len(content)
            if self.hub.mood == "long":
                content = content + bytes(1000)
        self.send(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{path.name}-1"'}, promised)

    def send_json(self, value):
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status, content, headers, promised=None):
        try:
            self.send_response(status)
            for name, value in headers.items():
                if value is not None:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(promised or len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            self.wfile.flush()
        except OSError:
            pass  # the other side has had enough
        self.close_connection = True

    def log_message(self, format, *values):
        pass


def commands(folder: Path, source: Path) -> dict[str, list[str]]:
    """Each command that asks the Hub, by name; a study `hub.yaml` is written into the folder."""
    study = {
        "study": "hub", "question": "Is it there?", "protocol": "fair", "seeds": [0],
        "data": {"source": str(source), "held_out": 0.2, "window": 16},
        "subjects": [{"name": "hub", "model": MODEL}],
        "cuts": [{"method": "magnitude", "amounts": [0.5]}],
        "recovery": {"steps": 0, "learning_rate": 1e-3, "batch_windows": 2}, "measures": ["loss"],
    }  # fmt: skip
    (folder / "hub.yaml").write_text(json.dumps(study))  # JSON is YAML, too
    return {
        "describe": ["describe", MODEL],
        "generate": ["generate", MODEL, "--prompt", "def", "--max-tokens", "2"],
        "prune": ["prune", MODEL, "--method", "magnitude", "--amount", "0.5", "-o", "pruned"],
        "eval": ["eval", MODEL, "--measures", "loss", "--data", str(source), "-o", "measured"],
        "run": ["run", "hub.yaml", "--out", "ran"],
        "prepare": ["prepare", "--source", f"hf:{DATA}", "--train_tokenizer", "300",
                    "--max_retries", "1", "-o", "prepared"],
    }  # fmt: skip


def one_after_another(lists: dict[str, list[str]]) -> dict[str, dict]:
    """Run commands in this process: name -> exit code, seconds, and what they said."""
    import contextlib
    import io

    from resprout.cli import main

    found = {}
    for name, arguments in lists.items():
        said = io.StringIO()
        begun = time.monotonic()
        code, trace = 0, ""
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                main(arguments)
            except SystemExit as stop:
                code = stop.code
            except BaseException as error:
                trace = f"{type(error).__name__}: {error}"
        found[name] = {"code": code, "seconds": time.monotonic() - begun, "said": said.getvalue(),
                       "trace": trace}  # fmt: skip
    return found


if __name__ == "__main__":
    import sys

    lists = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps(one_after_another(lists)))
