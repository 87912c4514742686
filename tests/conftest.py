"""Shared by all tests: offline, small data, and the shared folder where it is at hand."""

import os
import signal
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
# Small tensors gain nothing from threads, and two busy programs on two cores lose much by them. The
# same for every process of a test: digits depend on it.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
import yaml
from hypothesis import settings

from places import SHARED
from resprout.data.prepare import prepare_documents
from resprout.data.sources import Document
from resprout.data.tokens import TokenSet
from text_files import write_documents

# A busy machine is no failure: nothing here is timed.
# Found anew each time where somebody looks, the same each time where a machine decides.
settings.register_profile("untimed", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("untimed")


def pytest_configure():
    # Started in the background, the tests ignore Ctrl-C, and so would every program they start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device, which is not here")


@pytest.fixture
def shared() -> Path:
    """The folder of real models and fixtures beside the project."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real models and fixtures), which is not here")
    return SHARED


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    """Fifty small documents, each with its own words, so that splits differ."""
    texts = []
    for i in range(50):
        lines = [f"def function_{i}_{j}(x):\n    return x * {i} + {j}\n" for j in range(8)]
        texts.append(Document(f"folder/file_{i}.py", "\n".join(lines)))
    return texts


@pytest.fixture(scope="session")
def tokens(documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> TokenSet:
    """The documents in 300 tokens."""
    folder = tmp_path_factory.mktemp("tokens") / "small"
    return prepare_documents(documents, folder, held_out=0.2, vocab_size=300, source="test")


@pytest.fixture
def text_folder(tmp_path: Path, documents: list[Document]) -> Path:
    """The documents as files."""
    return write_documents(tmp_path, documents)


@pytest.fixture
def small_study(text_folder: Path) -> dict:
    """A whole study of two subjects that takes seconds, as its YAML file would hold it."""
    return {
        "study": "small",
        "question": "Does it work?",
        "protocol": "fair",
        "seeds": [0],
        "data": {
            "source": str(text_folder),
            "held_out": 0.2,
            "train_tokenizer": 300,
            "window": 16,
        },
        "subjects": [
            {"name": "bio", "model": "biogpt-nano", "learning_rate": 4e-3},
            {"name": "neox", "model": "gpt-neox-nano", "learning_rate": 4e-3},
        ],
        "training": {"steps": 4, "batch_windows": 2},
        "cuts": [{"method": "magnitude", "amounts": [0, 0.5, 0.9], "dead_threshold": 0.95}],
        "recovery": {"steps": 2, "batch_windows": 2, "learning_rate": 1e-3},
        "measures": ["loss", "text"],
        "text": {"new_tokens": 4, "prompts": {"code": "def function", "prose": "return x"}},
    }


@pytest.fixture
def write_study(tmp_path: Path):
    """Write a study's dict as a YAML file; returns its path."""

    def write(values: dict, name: str = "study.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    return write


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
