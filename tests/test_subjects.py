"""Subjects of a study: sizes changed by the study, checkpoints, and what cannot be had."""

import pytest
import torch
from transformers import AutoConfig

from resprout.data.tokenizer import for_transformers
from resprout.models.biogpt.published import write_published
from resprout.models.sizes import build, configuration
from resprout.study.run import run_study
from resprout.study.spec import read_spec

CPU = torch.device("cpu")


def test_a_study_changes_a_sizes_configuration(small_study, write_study, tmp_path):
    changed = {"name": "scaled", "config": {"init": "scaled", "n_passes": 2}}
    small_study["subjects"][1] = small_study["subjects"][0] | changed
    small_study["cuts"][0]["amounts"] = [0]
    outcome = run_study(read_spec(write_study(small_study)), tmp_path / "run", CPU, print)
    assert outcome.failures == {}
    grown = [AutoConfig.from_pretrained(f) for f in (tmp_path / "run" / "subjects").iterdir()]
    assert sorted((c.init, c.n_passes) for c in grown) == [("published", 1), ("scaled", 2)]
    losses = {r["measures"]["loss"]["nats_per_token"] for r in outcome.records}
    assert len(losses) == 2


@pytest.mark.slow
def test_a_published_checkpoint_is_a_subject(small_study, write_study, tmp_path, tokens):
    folder = tmp_path / "theirs"
    folder.mkdir()
    model = build(configuration("biogpt-nano", vocab_size=300), seed=3)
    write_published(model, folder / "x.pt")
    for_transformers(tokens.tokenizer(), 128).save_pretrained(folder)
    small_study["subjects"] = [{"name": "theirs", "model": str(folder / "x.pt")}]
    small_study["cuts"][0]["amounts"] = [0, 0.5]
    small_study.pop("training")
    small_study["data"].pop("train_tokenizer")
    file = write_study(small_study)
    outcome = run_study(read_spec(file), tmp_path / "run", CPU, print)
    assert outcome.failures == {}
    assert outcome.computed == 2
    assert run_study(read_spec(file), tmp_path / "run", CPU, print).computed == 0
    with torch.no_grad():
        model.model.ln_f.bias.add_(1)
    (folder / "x.pt").unlink()
    write_published(model, folder / "x.pt")  # other weights, another subject
    assert run_study(read_spec(file), tmp_path / "run", CPU, print).computed == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "biogpt-nan"}, "subjects.0.model: 'biogpt-nan' is neither"),
        ({"model": "no/such-model"}, "subjects.0.model: 'no/such-model' is neither"),
        ({"model": "."}, "neither a model folder"),
        ({"learning_rate": None}, "subjects.0.learning_rate: missing"),
        ({"config": {"init": "best"}}, "subjects.0.config: init: got 'best', allowed are"),
        ({"config": {"n_pases": 2}}, "config.n_pases: .* did you mean 'n_passes'"),
        ({"config": {"vocab_size": 9}}, "config.vocab_size: not allowed"),
    ],
)
def test_bad_subjects_are_refused_before_anything(
    small_study, write_study, tmp_path, change, message
):
    small_study["subjects"][0] |= change
    with pytest.raises(ValueError, match=message) as caught:
        run_study(read_spec(write_study(small_study)), tmp_path / "run", CPU, print)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_windows_beyond_the_context_are_refused(small_study, write_study, tmp_path):
    small_study["data"]["window"] = 129
    with pytest.raises(ValueError, match=r"data\.window: got 129, allowed are up to the 128"):
        run_study(read_spec(write_study(small_study)), tmp_path / "run", CPU, print)
