"""Readers of our own files, fed with what is nearly right: an answer or one line, nothing else."""

import copy
import json
import random
import shutil

import pytest
import torch

import resprout
from report_records import two, write_run
from resprout.data.tokens import TokenSet
from resprout.files import read_json
from resprout.models.sizes import build, configuration
from resprout.models.sparse import SPARSE, read_places, read_sparse, write_sparse
from resprout.pruning.cut import Cut
from resprout.record import StudyFile, read_checked
from resprout.report.records import read_run
from resprout.report.runs import run_states
from resprout.report.training import HISTORY, read_training

TRIES = 120
WRONG = (
    None, True, 0, -1, 1.5, 2**70, "", "x", "../../etc/passwd", "\x00", "é" * 9, [], [1], {},
    {"a": 1}, float("nan"), float("inf"), 10**12, [[]], "<script>", "0-999999999999",
)  # fmt: skip


def places_of(tree, path=()):
    """The paths of all nodes of a JSON tree below the root."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inner:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places_of(value, (*path, key))


def changed(tree, draw):
    """The tree with one node replaced by nonsense, removed, or doubled."""
    tree = copy.deepcopy(tree)
    path = draw.choice(list(places_of(tree)))
    parent = tree
    for key in path[:-1]:
        parent = parent[key]
    how = draw.random()
    if how < 0.7:
        parent[path[-1]] = draw.choice(WRONG)
    elif how < 0.9:
        del parent[path[-1]]
    elif isinstance(parent, list):
        parent.append(parent[path[-1]])
    else:
        parent["unknown"] = parent[path[-1]]
    return tree


def hurt(data, draw):
    """Bytes with a bit flipped, an end cut off, a piece taken out, or garbage put in."""
    at = draw.randrange(len(data))
    how = draw.randrange(4)
    if how == 0:
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    if how == 1:
        return data[:at]
    if how == 2:
        return data[:at] + data[at + draw.randrange(1, 40) :]
    return data[:at] + draw.randbytes(draw.randrange(1, 40)) + data[at:]


def refuses(read):
    """The reader returns, or raises ValueError with one line; True = it refused."""
    try:
        read()
    except ValueError as error:
        assert "\n" not in str(error).strip(), str(error)
        return True
    return False


def try_all(read, file, seed=0, least=0.0):
    """Many versions of a file; at least so large a share of them is refused."""
    draw, whole = random.Random(seed), file.read_bytes()
    refused = 0
    for attempt in range(TRIES):
        if file.suffix == ".json" and attempt % 3:
            file.write_text(json.dumps(changed(json.loads(whole), draw)))
        else:
            file.write_bytes(hurt(whole, draw))
        refused += refuses(read)
    file.write_bytes(whole)
    read()  # and as it was, it is read
    assert refused >= least * TRIES


def all_of(folder):
    found = TokenSet.open(folder)
    for split in (found.train, found.val):
        int(split.tokens.max()), split.index.sum()
    return found.digest, found.tokenizer_digest, found.manifest["vocab_size"]


@pytest.mark.parametrize("name", ["manifest.json", "train.bin", "train.index.npy"])
def test_prepared_tokens(tokens, tmp_path, name):
    folder = tmp_path / "tokens"
    shutil.copytree(tokens.path, folder)
    try_all(lambda: all_of(folder), folder / name, least=0.3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A mask, a removal and sparse weights, without the digests that would notice any change."""
    place = tmp_path_factory.mktemp("saved")

    def cut(name, *arguments, sparse=False, **options):
        model = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
        made = resprout.prune(model, *arguments, **options)
        resprout.save(model, made, place / name, sparse=sparse)
        (place / name / "digests.json").unlink()

    cut("mask", "magnitude", 0.5)
    cut("sparse", "magnitude", 0.5, sparse=True)
    cut("removed", "heads-magnitude", 0.5, cut="remove")
    return place


@pytest.mark.parametrize(
    ("folder", "name"),
    [("mask", "cut.json"), ("mask", "cut.safetensors"), ("removed", "cut.json")],
)
def test_cuts(saved, folder, name):
    try_all(lambda: Cut.load(saved / folder), saved / folder / name, least=0.2)


def test_sparse_weights(saved):
    file = saved / "sparse" / SPARSE
    small = {"a": torch.eye(40), "b": torch.zeros(7, 3), "c": torch.ones(2)}
    write_sparse(file, small)
    for read in (read_sparse, read_places):
        try_all(lambda read=read: read(file), file, least=0.1)


@pytest.fixture
def run(tmp_path):
    write_run(tmp_path / "run", two([2.0, 3.0, 4.0], [2.0, 3.5, 5.0]))
    return tmp_path / "run"


def test_studies_and_points(run):
    point = sorted((run / "points").glob("*.json"))[0]
    for file in (run / "study.json", point):
        try_all(lambda: read_run(run), file)
        try_all(lambda: run_states(run), file, seed=1)


def test_histories_of_training(tmp_path):
    history = {"finished": False, "name": "a", "tokens_per_step": 8,
               "losses": [[1, 5.0], [2, 4.0]], "validation": [[2, 4.5]]}  # fmt: skip
    (tmp_path / HISTORY).write_text(json.dumps(history))
    try_all(lambda: read_training(tmp_path), tmp_path / HISTORY, least=0.3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "null",
        "7",
        "[" * 100_000,
        '{"a":' * 50_000,
        "9" * 10_000,
        "\ufeff{}",
        '"\\ud800"',
    ],
    ids=range(10),
)
def test_json_that_is_none(tmp_path, text):
    file = tmp_path / "x.json"
    file.write_text(text)
    try:
        read_json(file)
    except ValueError as error:
        assert str(file) in str(error) and "\n" not in str(error)
    with pytest.raises(ValueError, match=r"x\.json"):
        read_checked(file, StudyFile)
