"""Resprout: cut a language model back, let it resprout, measure what survived.

model, tokenizer = resprout.load("EleutherAI/pythia-160m", revision="step1000")
cut = resprout.prune(model, "magnitude", amount=0.45)
resprout.recover(model, cut, tokens="data", steps=500)
resprout.save(model, cut, "pruned/", tokenizer=tokenizer)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    "load": "resprout.models.subject",
    "prepare_text": "resprout.data.prepare",
    "prune": "resprout.pruning.api",
    "remove": "resprout.pruning.api",
    "Cut": "resprout.pruning.cut",
    "evaluate": "resprout.measure.evaluate",
    "save": "resprout.pruning.saving",
    "prune_and_recover": "resprout.train.cycles",
    "recover": "resprout.train.recovery",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'resprout' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


register_when_needed()
