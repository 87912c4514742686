"""Resprout: cut a language model back, let it resprout, measure what survived.

model, tokenizer = resprout.load("EleutherAI/pythia-160m", revision="step1000")
cut = resprout.prune(model, "magnitude", amount=0.45)
resprout.recover(model, cut, tokens="data", steps=500)
resprout.save(model, cut, "pruned/", tokenizer=tokenizer)
"""

from typing import TYPE_CHECKING

from resprout.lazy import on_first_use
from resprout.registration import register_when_needed

if TYPE_CHECKING:
    from resprout.data.prepare import prepare_text
    from resprout.measure.evaluate import evaluate
    from resprout.models.subject import load
    from resprout.pruning.api import prune, remove
    from resprout.pruning.cut import Cut
    from resprout.pruning.saving import save
    from resprout.train.cycles import prune_and_recover
    from resprout.train.recovery import recover

__version__ = "0.1.0"
__all__ = [
    "Cut",
    "__version__",
    "evaluate",
    "load",
    "prepare_text",
    "prune",
    "prune_and_recover",
    "recover",
    "remove",
    "save",
]

# Loaded on first use: torch and transformers take seconds to import, `resprout --help` must not.
_HOMES = {
    "load": "models.subject",
    "prepare_text": "data.prepare",
    "prune": "pruning.api",
    "remove": "pruning.api",
    "Cut": "pruning.cut",
    "evaluate": "measure.evaluate",
    "save": "pruning.saving",
    "prune_and_recover": "train.cycles",
    "recover": "train.recovery",
}
__getattr__ = on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)


register_when_needed()
