"""Preparing text, as users and studies call it."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from resprout.data import sources
from resprout.data import tokenizer as bpe
from resprout.data.engine import Notice, Progress, Run, Words
from resprout.data.folder import MANIFEST, OutputFolder
from resprout.data.pieces import Source
from resprout.data.request import TRAIN_TOKENIZER_BYTES, Request, read_numbers
from resprout.data.sources import Document, Documents
from resprout.data.splitting import one_document
from resprout.data.tokens import TokenSet
from resprout.files import new_folder
from resprout.refusals import check_callable, check_flag, check_path

DEFAULT_TOKENIZER = "EleutherAI/gpt-neox-20b"  # as published
SPLIT_NAMES = {False: "train", True: "val"}


def prepare_text(
    source: str | Path,
    out_dir: str | Path,
    *,
    target_tokens: int | None = None,
    val_fraction: float = 0.005,
    protocol: str = "fair",
    tokenizer: str | Path | None = None,
    train_tokenizer: int | None = None,
    train_tokenizer_bytes: int = TRAIN_TOKENIZER_BYTES,
    text_field: str = sources.DEFAULT_FIELD,
    split: str = "train",
    revision: str | None = None,
    max_retries: int = 10,
    start_over: bool = False,
    notice: Notice = print,
    warning: Notice = print,
    progress: Progress = lambda tokens, text_bytes: None,
) -> TokenSet:
    """Tokenise a source into a folder, or go on where an earlier call was stopped.

    Args:
        source: see `resprout.data.sources.find_source`.
        out_dir: the folder to make; a finished one of the same request is returned as it is.
        target_tokens: stop after the document with which both splits together have as many;
            default the whole source.
        val_fraction: share of the documents (by a hash of their names) that become validation;
            under the protocol `paper` the share of the tokens, from the end of the stream.
        protocol: `fair` or `paper`.
        tokenizer: Hub id or folder of one; default GPT-NeoX's, as published.
        train_tokenizer: train a byte-level BPE of this many entries on the text instead,
        train_tokenizer_bytes: on at most so much of it.
        text_field: of JSON lines, Parquet and Hub data sets.
        split: of a Hub data set,
        revision: of a Hub data set; default its newest.
        max_retries: how often a broken connection is tried again.
        start_over: remove what an earlier call made in `out_dir`.
        notice: told what happens.
        warning: told of a connection that broke and is tried again.
        progress: told tokens and bytes now and then.

    Raises:
        ValueError: an option that can give nothing, a source or tokenizer that cannot be had, a
            folder that holds something else. Nothing is written then.
        OutputError: the disk is full; what was done is kept, and the same call goes on from there.
    """
    source = sources.source_name(source)
    check_path("out_dir", out_dir)
    if tokenizer is not None:
        check_path("tokenizer", tokenizer)
        tokenizer = str(tokenizer)
    numbers = read_numbers(
        target_tokens,
        val_fraction,
        protocol,
        max_retries,
        tokenizer,
        train_tokenizer,
        train_tokenizer_bytes,
    )
    target_tokens, val_fraction, max_retries, train_tokenizer, train_tokenizer_bytes = numbers
    check_flag("start_over", start_over)
    for name, function in (("notice", notice), ("warning", warning), ("progress", progress)):
        check_callable(name, function)
    out = OutputFolder(Path(out_dir))
    out.check(start_over)
    found = sources.find_source(source, text_field, split, revision, max_retries, warning)
    if protocol == "fair" and getattr(found, "is_one_document", False):
        raise ValueError(one_document(source, None))
    words, named = None, None
    if train_tokenizer is None:
        name = DEFAULT_TOKENIZER if tokenizer is None else tokenizer
        loaded = bpe.pretrained(name)
        own = loaded.backend_tokenizer
        if (Path(name) / MANIFEST).is_file() and (Path(name) / bpe.TOKENIZER).is_file():
            # A prepared folder's, to the letter: transformers adds a post-processor that does
            # nothing, and the digest would no longer tell that two folders have the same tokens.
            own = bpe.load(Path(name) / bpe.TOKENIZER)
        words = Words(own, loaded.eos_token_id, loaded)
        named = {
            "name": name,
            "sha256": bpe.digest(words.tokenizer),
            "end_of_text": words.end_of_text,
        }
    request = Request(
        source,
        found.identity(),
        target_tokens,
        val_fraction,
        protocol,
        named,
        train_tokenizer,
        train_tokenizer_bytes,
    )
    anew = start_over or out.is_starting_over
    if not anew and _is_done(out, request):
        if out.work.is_dir():  # killed in its last moment
            with out.locked():
                out.discard()
        notice(f"{out.path} holds this already: nothing to do")
        return TokenSet.open(out.path)
    if anew or out.progress() is None:
        found.check()
    with out.locked():
        if start_over or out.is_starting_over:
            out.start_over()
        if not _is_done(out, request):  # another run may have finished it just now
            begun = out.progress() is not None
            notice(f"{'continuing' if begun else 'preparing'} {source} in {out.path}")
            Run(out, request, found, words, notice, progress).run()
    return TokenSet.open(out.path)


def _is_done(out: OutputFolder, request: Request) -> bool:
    """Whether the folder holds this request's files; refuses another's, and damaged ones."""
    finished = out.finished()
    if finished is not None:
        asked = finished.get("request")
        if asked is None:
            raise ValueError(
                f"out_dir: {str(out.path)!r} was prepared by an earlier version; allowed is "
                "another out_dir, or --start_over to remove what is there"
            )
        request.check_same(asked, "finished", str(out.path))
        return True
    if (unfinished := out.progress()) is not None:
        request.check_same(unfinished["request"], "unfinished", str(out.path))
    return False


def prepare_documents(
    documents: Sequence[Document],
    path: Path,
    held_out: float,
    vocab_size: int | None = None,
    tokenizer: Tokenizer | None = None,
    end_of_text: int = 0,
    source: str = "",
) -> TokenSet:
    """Tokenise documents in memory into `path`, split by document: what a study does.

    Args:
        documents: in their fixed order.
        path: the folder to make; appears whole or not at all.
        held_out: share of the documents (by a hash of their names) that become validation.
        vocab_size: train a byte-level BPE of this size on the training documents, or
        tokenizer: use this one, with `end_of_text` as the id written after each document.
        end_of_text: see `tokenizer`; a trained tokenizer brings its own.
        source: how the documents were named, for the manifest.

    Raises:
        ValueError: a split would be empty.
    """
    there = {sources.is_held_out(document.name, held_out) for document in documents}
    for held, name in SPLIT_NAMES.items():
        if held not in there:
            raise ValueError(
                f"held_out: {held_out} of {len(documents)} documents leaves the {name} split "
                "empty; allowed is a fraction that gives each split at least one document"
            )
    words, named = None, None
    if tokenizer is not None:
        words = Words(tokenizer, end_of_text)
        named = {"name": None, "sha256": bpe.digest(tokenizer), "end_of_text": end_of_text}
    elif vocab_size is None:
        raise ValueError("prepare: give vocab_size (to train a tokenizer) or a tokenizer")
    elif vocab_size < bpe.SMALLEST_VOCABULARY:
        raise ValueError(
            f"vocab_size: got {vocab_size}, allowed is {bpe.SMALLEST_VOCABULARY} or more"
        )
    text: Source = Documents(documents, source)
    limit = max(1, sum(4 * len(document.text) for document in documents))  # all of them
    request = Request(
        source, text.identity(), None, held_out, "fair", named, vocab_size if not words else None,
        limit,
    )  # fmt: skip
    with new_folder(path) as folder:
        Run(OutputFolder(folder), request, text, words, notice=lambda line: None).run()
    return TokenSet.open(path)
