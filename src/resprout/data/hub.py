"""Data sets of the Hub as a source: streamed, entered again anywhere, outages waited for."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from resprout.data.outage import ConnectionLostError, Trouble, kind_of
from resprout.data.pieces import Item, Position, Skipped, entered, pieces_of
from resprout.data.sources import HUB_PREFIX
from resprout.hints import first_line
from resprout.hub import HUB_TIMEOUT_SECONDS, hub_reason

# As published, tried in this order.
PILE = ("monology/pile-uncopyrighted", "EleutherAI/pile", "Skylion007/openwebtext")
LONGEST_WAIT_SECONDS = 30
# A Hub that cannot be reached at all before anything was read is given up soon.
RETRIES_UNREACHABLE = 2


class DataSet(NamedTuple):
    """A data set's name (a Hub id or a folder that `datasets` understands) and configuration."""

    name: str
    config: str | None


def hub_source(
    given: str,
    field: str,
    split: str,
    revision: str | None,
    max_retries: int,
    notice: Callable[[str], None],
) -> "Hub":
    """The source of `pile` or `hf:NAME[:CONFIG]`; the Hub is asked when reading begins.

    Raises:
        ValueError: the name is empty, or of a folder that is not there.
    """
    if given == "pile":
        candidates = [DataSet(name, None) for name in PILE]
    else:
        name, _, config = given.removeprefix(HUB_PREFIX).partition(":")
        local = name.startswith((".", "/", "~"))
        if not name or (local and not Path(name).is_dir()) or (not local and name.count("/") > 1):
            raise ValueError(
                f"source: got {given!r}, allowed is hf:NAME[:CONFIG], NAME being a Hub id "
                "(OWNER/NAME) or a folder"
            )
        candidates = [DataSet(name, config or None)]
    return Hub(given, candidates, field, split, revision, max_retries, notice)


class Hub:
    """One data set, or the first to be had of several. A position's base is `[rows, state]`."""

    def __init__(
        self,
        description: str,
        candidates: list[DataSet],
        field: str,
        split: str,
        revision: str | None,
        max_retries: int,
        notice: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.description = description
        self.candidates = candidates
        self.field = field
        self.split = split
        self.revision = revision
        self.max_retries = max_retries
        self.notice = notice
        self.sleep = sleep
        self._pinned: dict[str, Any] | None = None

    def identity(self) -> dict[str, Any]:
        """What was asked for; the commit found is pinned, so that a newer one moves nothing."""
        found: dict[str, Any] = {
            "candidates": [list(candidate) for candidate in self.candidates],
            "split": self.split,
            "text_field": self.field,
            "revision": self.revision,
        }
        folder = Path(self.candidates[0].name)
        if folder.is_dir():
            from resprout.data.listing import folder_identity

            del found["candidates"]
            found |= {"config": self.candidates[0].config, **folder_identity(folder)}
        return found

    def pinned(self) -> Any:
        """Name, configuration and commit of the data set that is read."""
        return self._pinned

    def pin(self, found: Any) -> None:
        """Read that one, at that commit."""
        self._pinned = found

    def check(self) -> None:
        """Ask for the first row: a name, split or field that is not there is told before work."""
        for _ in self.pieces(None):
            return

    def sample(self, limit_bytes: int) -> Iterator[Item]:
        """The beginning: a stream has no other part that could be had."""
        yield from self.pieces(None)

    def pieces(self, position: Position | None) -> Iterator[Item]:
        """The documents, named `NAME:ROW`, counted from 1; waits for outages to pass.

        Raises:
            ValueError: no such data set, split or field; none of the sources can be had.
            ConnectionLostError: an outage lasted longer than the retries, with work done before.
        """
        (rows, state), given = entered(position, [0, None])
        delivered = self._pinned is not None
        candidate = failures = 0
        while True:
            chosen = self._chosen(candidate)
            try:
                stream = self._open(chosen, rows, state)
                while (row := _next(stream)) is not None:
                    self._pin_to(chosen)
                    delivered, failures = True, 0
                    before, rows = [rows, state], rows + 1
                    state = stream.state_dict() if hasattr(stream, "state_dict") else None
                    yield from self._document(row, chosen, rows, before, [rows, state], given)
                    given = 0
                self._pin_to(chosen)
                return
            except Trouble as trouble:
                failures += 1
                if failures <= self._retries(trouble, delivered):
                    wait = min(2 ** (failures - 1), LONGEST_WAIT_SECONDS)
                    self.notice(f"{chosen.name}: {trouble}; try {failures} again in {wait} s")
                    self.sleep(wait)
                    continue
                if delivered:
                    raise ConnectionLostError(
                        f"{chosen.name}: {trouble}, {failures} times in a row"
                    ) from trouble
                candidate, failures = candidate + 1, 0
                if candidate == len(self.candidates):
                    names = ", ".join(c.name for c in self.candidates)
                    which = names if len(self.candidates) == 1 else f"none of {names}"
                    no = "cannot" if len(self.candidates) == 1 else "can"
                    raise ValueError(f"source: {which} {no} be had ({trouble})") from trouble
                self.notice(f"{chosen.name}: {trouble}; going on to {self._chosen(candidate).name}")

    def _chosen(self, candidate: int) -> DataSet:
        if self._pinned is not None:
            return DataSet(self._pinned["name"], self._pinned["config"])
        return self.candidates[candidate]

    def _retries(self, trouble: Trouble, delivered: bool) -> int:
        if trouble.kind == "refused" or (trouble.kind == "offline" and trouble.wanted):
            return 0
        if trouble.kind == "offline" and not delivered:
            return min(self.max_retries, RETRIES_UNREACHABLE)
        return self.max_retries

    def _open(self, chosen: DataSet, rows: int, state: Any) -> Any:
        """The stream, at a row."""
        sha = self._pinned["revision"] if self._pinned else self.revision
        local, unreachable = Path(chosen.name).is_dir(), None
        if not local and (self._pinned is None or sha is None):
            sha, unreachable = _ask(chosen.name, self.revision)
        self._found = sha
        try:
            stream = _attempt(lambda: open_stream(chosen, self.split, sha, unreachable is None))
        except Trouble as trouble:
            if unreachable is None or trouble.kind != "offline" or trouble.wanted:
                raise
            why = f"the Hub cannot be reached: {unreachable}"
            raise Trouble(trouble.kind, why) from trouble
        self._check_field(stream, chosen)
        if state is not None:
            _attempt(lambda: stream.load_state_dict(state))
            return _Stream(stream)
        reading = _Stream(stream)
        for _ in range(rows):  # a stream that cannot be entered anywhere else
            _next(reading)
        return reading

    def _pin_to(self, chosen: DataSet) -> None:
        if self._pinned is None:
            self._pinned = {**chosen._asdict(), "revision": self._found}

    def _check_field(self, stream: Any, chosen: DataSet) -> None:
        kinds = getattr(stream, "features", None)
        if not kinds:
            return
        there = ", ".join(sorted(kinds))
        if self.field not in kinds:
            raise ValueError(
                f"text_field: {self.field!r} is not there; the fields of {chosen.name} are: {there}"
            )
        kind = str(getattr(kinds[self.field], "dtype", kinds[self.field]))
        if "string" not in kind:
            raise ValueError(
                f"text_field: {self.field!r} holds {kind}, allowed is a field of strings; "
                f"the fields of {chosen.name} are: {there}"
            )

    def _document(
        self, row: Any, chosen: DataSet, number: int, before: Any, after: Any, given: int
    ) -> Iterator[Item]:
        # A folder goes by its own name: where it lies should not decide what is held out.
        folder = Path(chosen.name)
        where = f"{folder.name if folder.is_dir() else chosen.name}:{number}"
        if number == 1 and isinstance(row, dict) and self.field not in row:
            raise ValueError(
                f"text_field: {self.field!r} is not there; the fields of {chosen.name} are: "
                + ", ".join(sorted(row))
            )
        text = row.get(self.field) if isinstance(row, dict) else None
        if isinstance(text, str):
            yield from pieces_of(where, text, before, after, given)
        else:
            yield Skipped("no_text", where, [after, 0])


class _Stream:
    """A data set being read: its rows and its state are had through one object."""

    def __init__(self, stream: Any):
        self.rows = iter(stream)
        if hasattr(stream, "state_dict"):
            self.state_dict = stream.state_dict


def open_stream(chosen: DataSet, split: str, revision: str | None, reachable: bool) -> Any:
    """What `datasets` gives for a data set.

    Args:
        chosen: name and configuration.
        split: of it.
        revision: of it, where it is known.
        reachable: False has the library look in its cache alone: it would ask an unreachable Hub
            six times, for half a minute.
    """
    import datasets  # type: ignore[import-untyped]
    from huggingface_hub import constants

    # Its own retries sleep up to twenty minutes without a word; ours are told and can be set.
    settings = datasets.config
    settings.STREAMING_READ_MAX_RETRIES = settings.STREAMING_OPEN_MAX_RETRIES = 1
    settings.STREAMING_READ_RETRY_INTERVAL = settings.STREAMING_OPEN_RETRY_INTERVAL = 0
    datasets.utils.logging.set_verbosity_error()
    named = {"revision": revision} if revision else {}
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable
    try:
        if chosen.config:
            named["name"] = chosen.config
        return datasets.load_dataset(chosen.name, split=split, streaming=True, **named)
    finally:
        constants.HF_HUB_OFFLINE = before


def _ask(name: str, revision: str | None) -> tuple[str | None, str | None]:
    """(the commit that a revision means, why the Hub did not answer; None where it did)."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS).sha, None
    except Exception as error:  # sorted by `kind_of`
        if kind_of(error) == "refused":
            raise Trouble("refused", hub_reason(error)) from error
        return revision, hub_reason(error)


def _next(stream: Any) -> Any:
    return _attempt(lambda: next(stream.rows, None))


def _attempt(act: Callable[[], Any]) -> Any:
    """Do what the network can break; the libraries' many errors become `Trouble`."""
    try:
        return act()
    except Exception as error:
        kind = kind_of(error)
        from huggingface_hub import constants

        message = "the Hub cannot be reached" if kind == "offline" else first_line(error)
        wanted = kind == "offline" and constants.HF_HUB_OFFLINE
        if wanted:
            message = "the Hub is not asked, since HF_HUB_OFFLINE is set"
        raise Trouble(kind, message, wanted) from error
