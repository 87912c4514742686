"""`resprout generate --interactive` on a real terminal: editing, Ctrl-C, Ctrl-D."""

import os
import select
import subprocess
import sys
import time

import pytest
import torch

from resprout.data.tokenizer import END_OF_TEXT, for_transformers, train_bpe
from resprout.models.sizes import build, configuration

pty = pytest.importorskip("pty", reason="needs a POSIX terminal")
PATIENCE_SECONDS = 60

# Several sessions in one process: each import of torch would take seconds more.
SESSIONS = """
import fcntl, signal, sys, termios
# A shell's background jobs ignore Ctrl-C, and so would what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # its own terminal, so that Ctrl-C is a signal to it
from resprout.cli import main
options = ["--temperature", "0", "--max_tokens", "3000"]
for session, way in enumerate((["--interactive"], ["--interactive"], ["--prompt", "cab"]), 1):
    try:
        main(["generate", sys.argv[1], *way, *options])
    except SystemExit as end:
        print(f"session {session} ended with {end.code}", flush=True)
"""


class Terminal:
    """A program on a pseudo-terminal, and what it has shown."""

    def __init__(self, *command):
        self.end, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TERM": "dumb", "INPUTRC": "/dev/null"},
        )
        os.close(theirs)
        self.shown = ""

    def type(self, text):
        os.write(self.end, text.encode())

    def wait_for(self, text):
        """Everything up to `text`, taken from what has been shown."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in self.shown:
            ready, _, _ = select.select([self.end], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come; shown was {self.shown!r}"
            try:
                piece = os.read(self.end, 4096)
            except OSError:  # Linux's word for the end of the other side
                piece = b""
            assert piece, f"ended before {text!r}; shown was {self.shown!r}"
            self.shown += piece.decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.end)


@pytest.fixture
def folder(tmp_path):
    """A small model that never ends its text by itself, of 4,000 positions."""
    bpe = for_transformers(train_bpe(["the cat sat on the mat and the dog saw the cat"], 257))
    config = configuration(
        "gpt-neox-nano", vocab_size=257, max_position_embeddings=4000, num_hidden_layers=2
    )
    model = build(config, seed=0)
    with torch.no_grad():  # a logit of 0 is never the largest of all
        model.get_output_embeddings().weight[bpe.convert_tokens_to_ids(END_OF_TEXT)] = 0
    model.save_pretrained(tmp_path)
    bpe.save_pretrained(tmp_path)
    return tmp_path


def test_a_conversation(folder):
    terminal = Terminal(sys.executable, "-c", SESSIONS, str(folder))
    try:
        terminal.wait_for("> ")
        # Line editing: type ac, go left, put a b between.
        terminal.type("xaczz\x7f\x7f\x1b[Db\r")
        terminal.wait_for("\n")  # the echo of the line, with what editing does to it
        terminal.wait_for("xabc")
        # It writes 3,000 tokens now; Ctrl-C ends this text alone.
        terminal.type("\x03")
        terminal.wait_for("\r\n> ")
        terminal.type("\r")  # an empty line does nothing
        terminal.wait_for("> ")
        terminal.type("y" * 1200 + "\r")
        terminal.wait_for("resprout: error: max_tokens: got 3000, allowed are up to 2800")
        terminal.wait_for("> ")
        terminal.type("\x1b[A\x1b[A\x05!\r")  # two lines back in the history, and to its end
        terminal.wait_for("xabc!")
        terminal.wait_for("xabc!")  # the echo of the line, then the text
        terminal.type("\x03")
        terminal.wait_for("\r\n> ")
        terminal.type("\x04")
        assert "Traceback" not in terminal.wait_for("session 1 ended with 0")
        terminal.wait_for("> ")
        terminal.type("abc")
        terminal.wait_for("abc")
        time.sleep(0.2)  # readline, having echoed, goes back to waiting for keys
        terminal.type("\x03")
        assert "Traceback" not in terminal.wait_for("session 2 ended with 0")
        terminal.wait_for("cab")  # a single text: Ctrl-C ends the command
        terminal.type("\x03")
        assert "Traceback" not in terminal.wait_for("session 3 ended with 130")
        assert terminal.process.wait(PATIENCE_SECONDS) == 0
    finally:
        terminal.close()


@pytest.mark.slow
def test_a_reader_that_leaves_early_ends_it_silently(folder):
    """As `| head` does."""
    command = [sys.executable, "-m", "biogpt.generate", "--checkpoint", str(folder), "--prompt",
               "the cat", "--max_tokens", "3000", "--temperature", "0"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(7) == b"the cat"
        process.stdout.close()
        assert process.wait(PATIENCE_SECONDS) == 141
        assert process.stderr.read() == b""
