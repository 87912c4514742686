"""Studies of any method: calibrated on the study's own text, masks or removals, refused early."""

import pytest
import torch

from resprout.study.run import run_study
from resprout.study.spec import read_spec


def run(path, folder):
    return run_study(read_spec(path), folder, torch.device("cpu"), lambda line: None)


@pytest.fixture
def neox_study(small_study):
    """The small study with the control alone, and no text."""
    small_study["subjects"] = small_study["subjects"][1:]
    small_study["measures"] = ["loss"]
    del small_study["text"]
    return small_study


def test_units_and_calibrated_methods(neox_study, write_study, tmp_path):
    neox_study["cuts"] = [
        {"method": "wanda", "amounts": [0.5]},
        {"method": "wanda-2:4", "amounts": [0, 0.5]},
        {"method": "heads-entropy", "amounts": [0.5], "scope": "per_layer", "cut": "remove"},
        {"method": "heads-entropy", "amounts": [0.5], "scope": "per_layer"},
    ]
    outcome = run(write_study(neox_study), tmp_path / "run")
    assert outcome.failures == {}
    wanda, uncut, pattern, removed, masked = outcome.records
    assert uncut["achieved"] == 0 and uncut["method"] == "wanda-2:4"
    assert wanda["achieved"] == pytest.approx(0.5) and pattern["achieved"] == pytest.approx(0.5)
    assert (removed["unit"], removed["achieved"]) == ("head", 0.5)
    # A removal has fewer parameters, a mask as many held at zero.
    assert removed["parameters"]["total"] < masked["parameters"]["total"]
    assert removed["parameters"]["surviving"] == masked["parameters"]["surviving"]
    before = [r["measures"]["loss_before_recovery"] for r in (removed, masked)]
    assert before[0]["nats_per_token"] == pytest.approx(before[1]["nats_per_token"], abs=1e-5)
    assert len({r["id"] for r in outcome.records}) == 5


def test_a_family_without_the_units_is_refused_before_training(small_study, write_study, tmp_path):
    small_study["cuts"] = [{"method": "glu-maw", "amounts": [0.5]}]
    with pytest.raises(ValueError, match=r"cuts\.0\.method: .*has no GLU neurons"):
        run(write_study(small_study), tmp_path / "run")
    assert not (tmp_path / "run" / "subjects").exists()


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ({"method": "2:4", "amounts": [0.3]}, "amounts: got 0.3, allowed with the pattern 2:4"),
        ({"method": "wanda", "amounts": [0.5], "scope": "per_head"}, "scope: got 'per_head'"),
        ({"method": "wanda", "amounts": [0.5], "cut": "burn"}, "cut: got 'burn'"),
        ({"method": "wanda-2:4", "amounts": [0.5], "scope": "1:4"}, "says 2:4"),
    ],
)
def test_cuts_that_make_no_sense(small_study, write_study, cut, message):
    small_study["cuts"] = [cut]
    with pytest.raises(ValueError, match=message):
        read_spec(write_study(small_study))
