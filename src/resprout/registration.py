"""`import resprout` makes BioGPT known to transformers' Auto classes, without importing either.

transformers and torch take seconds to import, and `resprout --help` or a plain `import resprout` must
not pay for them. So registration waits for transformers' own Auto module: where that is imported
already it happens at once, else right after its import.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

# Both `AutoConfig` and the `AutoModel...` classes come from, or first import, these.
_AWAITED = ("transformers.models.auto.configuration_auto", "transformers.models.auto.modeling_auto")


def register_when_needed() -> None:
    """Register now, or as soon as transformers' Auto classes are imported."""
    if any(name in sys.modules for name in _AWAITED):
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    importlib.import_module("resprout.models.biogpt")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the awaited modules as ever, and has their import followed by the registration."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The ordinary spec of an awaited module, its loader wrapped; None for all others."""
        if fullname not in _AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Another loader, and then the registration."""

    def __init__(self, loader: importlib.abc.Loader):
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As the wrapped loader."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the wrapped loader; the module is complete when BioGPT is registered in it."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        _register()
