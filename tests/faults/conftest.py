"""What the wounds share: a study, a preparation, a training and a cut that nobody disturbed."""

import pytest
import yaml
from harness import Command, prepare, prune, train

from text_files import write_documents


@pytest.fixture(scope="session")
def home(documents, tmp_path_factory):
    """A folder with the text and `s.yaml`, a study of one subject at three amounts."""
    folder = tmp_path_factory.mktemp("faults")
    write_documents(folder, documents)
    study = {
        "study": "hurt",
        "question": "Does it come back?",
        "protocol": "fair",
        "seeds": [0],
        "data": {
            "source": str(folder / "text"),
            "held_out": 0.2,
            "train_tokenizer": 300,
            "window": 16,
        },
        "subjects": [{"name": "neox", "model": "gpt-neox-nano", "learning_rate": 4e-3}],
        "training": {"steps": 60, "batch_windows": 2, "checkpoint_every": 10},
        "cuts": [{"method": "magnitude", "amounts": [0, 0.5, 0.9]}],
        "recovery": {"steps": 4, "batch_windows": 2, "learning_rate": 1e-3},
        "measures": ["loss"],
    }
    (folder / "s.yaml").write_text(yaml.safe_dump(study))
    return folder


@pytest.fixture(scope="session")
def whole_study(home):
    """The folder of the undisturbed study."""
    Command(["run", "s.yaml", "--out", "study"], home).whole()
    return home / "study"


@pytest.fixture(scope="session")
def whole_data(home):
    """The folder of the undisturbed preparation."""
    prepare(home, "data").whole()
    return home / "data"


@pytest.fixture(scope="session")
def whole_train(home, whole_data):
    """The folder of the undisturbed training."""
    train(home, "trained").whole()
    return home / "trained"


@pytest.fixture(scope="session")
def model(home, whole_data):
    """The folder of a small random model in the vocabulary of the prepared text."""
    from resprout.data.tokens import TokenSet
    from resprout.models.sizes import build, configuration

    build(configuration("gpt-neox-nano", vocab_size=300), seed=0).save_pretrained(home / "model")
    TokenSet.open(whole_data).transformers_tokenizer().save_pretrained(home / "model")
    return home / "model"


@pytest.fixture(scope="session")
def whole_cut(home, model):
    """The folder of the undisturbed cut with its recovery."""
    prune(home, "cut").whole()
    return home / "cut"
