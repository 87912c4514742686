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
from resprout.record import Record, StudyFile, read_checked
from resprout.report.records import read_run
from resprout.report.runs import run_states
from resprout.report.tables import rows
from resprout.report.training import HISTORY, read_training
from resprout.seals import SEAL

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


@pytest.fixture
def unsealed(tokens, tmp_path):
    """A prepared folder of an earlier version: no seal, which would notice any change."""
    folder = tmp_path / "tokens"
    shutil.copytree(tokens.path, folder)
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in manifest.items() if k != SEAL}))
    return folder


def test_manifests_without_a_seal(unsealed):
    def read():
        found = TokenSet.open(unsealed, checked=True)
        assert 0 < found.unigram_nats_per_token < found.manifest["vocab_size"]
        assert found.digest and found.tokenizer_digest and found.manifest["end_of_text"] >= 0

    try_all(read, unsealed / "manifest.json", least=0.3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", None),
        ("vocab_size", "x"),
        ("vocab_size", 2**40),
        ("digest", ...),
        ("tokenizer_sha256", ...),
        ("end_of_text", ...),
        ("tokenizer_files", []),
        ("dtype", "float32"),
        ("skipped", ["x"]),
        ("splits", []),
    ],
)
def test_what_a_manifest_lacks_is_named(unsealed, field, value):
    file = unsealed / "manifest.json"
    manifest = json.loads(file.read_text()) | {field: value}
    if value is ...:
        del manifest[field]
    file.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=rf"^tokens: .*manifest\.json' lacks or garbles {field}"):
        TokenSet.open(unsealed)


def test_the_first_versions_manifest_is_read(unsealed):
    """It knew no index, no target and none of the tokenizer's files."""
    file = unsealed / "manifest.json"
    manifest = json.loads(file.read_text())
    names = ("source", "documents_sha256", "held_out", "dtype", "vocab_size", "end_of_text",
             "tokenizer_sha256", "digest", "splits")  # fmt: skip
    old = {name: manifest[name] for name in names}
    for split in old["splits"].values():
        del split["index_sha256"]
    file.write_text(json.dumps(old))
    assert TokenSet.open(unsealed).manifest == old


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


def test_windows_of_a_record_agree_and_a_text_may_be_null(run):
    point = sorted((run / "points").glob("*.json"))[0]
    whole = json.loads(point.read_text())
    whole["measures"]["text"] = None
    point.write_text(json.dumps(whole))
    read = [record for record in read_run(run).records if record["id"] == whole["id"]]
    assert rows(read)[0][-2:] == ["-", "-"]
    for name in ("loss", "loss_before_recovery"):
        for key, value in (("window_nats", [1.0]), ("window_documents", [0, 1])):
            odd = copy.deepcopy(whole)
            odd["measures"][name][key] = value
            point.write_text(json.dumps(odd))
            with pytest.raises(ValueError, match=rf"{point.name}: .*{key}: {len(value)} of 60"):
                read_checked(point, Record)
    fewer = copy.deepcopy(whole)
    for key in ("window_nats", "window_tokens"):
        fewer["measures"]["loss_before_recovery"][key].pop()
    point.write_text(json.dumps(fewer))
    with pytest.raises(ValueError, match=r"loss_before_recovery: 59 windows.* has 60"):
        read_checked(point, Record)


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
