"""`import resprout` makes BioGPT known to transformers' Auto classes, without importing either.

transformers and torch take seconds to import, and `resprout --help` or a plain `import resprout`
must not pay for them. So registration waits for transformers' Auto classes: where they are
imported already it happens at once, else as soon as they are and no module of transformers is half
imported (it imports them in the middle of what BioGPT is made from).
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

_AUTO = ("transformers.models.auto.configuration_auto", "transformers.models.auto.modeling_auto")


def register_when_needed() -> None:
    """Register now, or as soon as transformers' Auto classes are imported."""
    if any(name in sys.modules for name in _AUTO):
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    importlib.import_module("resprout.models.biogpt")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds transformers' modules as ever, and learns when each is imported."""

    def __init__(self) -> None:
        self.half_imported: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The ordinary spec of a module of transformers, its loader wrapped; None for others."""
        if not fullname.startswith("transformers."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self)
        return spec

    def imported(self) -> None:
        """Called after each module: register when nothing is in the way any more."""
        ready = not self.half_imported and any(name in sys.modules for name in _AUTO)
        if ready and self in sys.meta_path:
            sys.meta_path.remove(self)
            _register()


class _Loader(importlib.abc.Loader):
    """Another loader, and then a word to the finder."""

    def __init__(self, loader: importlib.abc.Loader, finder: _Finder):
        self.loader, self.finder = loader, finder

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As the wrapped loader."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the wrapped loader; then the module is complete."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        self.finder.half_imported.add(module.__name__)
        try:
            self.loader.exec_module(module)
        finally:
            self.finder.half_imported.discard(module.__name__)
        self.finder.imported()
