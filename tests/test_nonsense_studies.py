"""Random study files: refused in one line, or read and written again as they are."""

import copy
import json
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import nonsense
from resprout.study.spec import StudySpec, read_spec

# What fields hold, rightly somewhere and wrongly elsewhere.
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.integers(),
    st.floats(0, 1),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["fair", "paper", "magnitude", "wanda-2:4", "glu-maw", "remove", "bio", "loss"]
    ),
)
VALUES = st.recursive(
    PLAIN,
    lambda part: st.one_of(
        st.lists(part, max_size=3),
        st.dictionaries(st.text(max_size=6) | st.sampled_from(["steps", "name"]), part, max_size=3),
    ),
    max_leaves=5,
)


def places(part, here=()):
    """The path of every value of a tree."""
    inner = (
        part.items()
        if isinstance(part, dict)
        else enumerate(part)
        if isinstance(part, list)
        else ()
    )
    for key, value in inner:
        yield (*here, key)
        yield from places(value, (*here, key))


STUDY = copy.deepcopy(nonsense.STUDY) | {
    "protocol": ["fair", "paper"],
    "adaptation": {"steps": 1, "learning_rate": 0.1, "order": "random"},
    "resources": {"cpus": 1, "memory_gb": 1.5},
    "speed": {"batches": [1], "repeats": 1},
}
CHANGES = st.lists(st.tuples(st.sampled_from(list(places(STUDY))), VALUES), min_size=1, max_size=2)


def changed(changes):
    values = copy.deepcopy(STUDY)
    for (*parents, last), value in changes:
        part = values
        try:
            for step in parents:
                part = part[step]
            part[last] = value
        except (TypeError, KeyError, IndexError):
            pass  # an earlier change took the place away
    return values


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    (folder / "text").mkdir()
    STUDY["data"]["source"] = str(folder / "text")
    return folder / "study.yaml"


def check(file):
    """A study file is refused in one line, or comes back from JSON as it is."""
    try:
        spec = read_spec(file)
    except ValueError as error:
        said = str(error)
        assert said.startswith(f"{file}: ")
        assert len(said.splitlines()) == 1
        assert len(said) < 3000
        return
    again = json.loads(json.dumps(spec.model_dump(), allow_nan=False))
    assert StudySpec.model_validate(again) == spec
    assert all(math.isfinite(amount) for cut in spec.cuts for amount in cut.amounts)


@settings(max_examples=60)
@given(changes=CHANGES)
def test_changed_studies(changes, file):
    file.write_text(yaml.safe_dump(changed(changes), allow_unicode=False), encoding="utf-8")
    check(file)


@settings(max_examples=20)
@given(
    content=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
def test_files_of_anything(content, file):
    file.write_bytes(content)
    check(file)


@settings(max_examples=20)
@given(
    cuts=st.lists(
        st.sampled_from(["magnitude", "random", "wanda", "2:4", "glu-maw", "heads-gate"]),
        min_size=1, max_size=3, unique=True,
    ),
    amounts=st.lists(st.floats(0, 0.99), min_size=1, max_size=4, unique=True),
    seeds=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=3, unique=True),
    steps=st.integers(0, 10),
)  # fmt: skip
def test_valid_studies_come_back(cuts, amounts, seeds, steps, file):
    values = copy.deepcopy(STUDY) | {"seeds": seeds}
    values["cuts"] = [{"method": m, "amounts": [0] if ":" in m else amounts} for m in cuts]
    values["recovery"] = {"steps": steps} | ({"learning_rate": 1e-3} if steps else {})
    file.write_text(yaml.safe_dump(values))
    spec = read_spec(file)
    assert [list(cut.amounts) for cut in spec.cuts] == [c["amounts"] for c in values["cuts"]]
    check(file)
