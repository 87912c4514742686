"""Around a study: the dry run, the schema for editors, the list of runs, both protocols."""

import json
import math
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml

from report_records import two
from resprout.cli import main
from resprout.cli.dry_run import dry_run_lines, duration
from resprout.models.identity import weights_digest
from resprout.models.sizes import build, configuration
from resprout.report import charts, tables
from resprout.report.comparison import compare_all, headline
from resprout.report.curves import curves
from resprout.report.runs import run_states
from resprout.study.dry_run import dry_run
from resprout.study.run import run_study
from resprout.study.schema import study_schema
from resprout.study.spec import read_spec
from text_files import write_documents

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def run(file, out):
    return run_study(read_spec(file), out, CPU, lambda line: None)


def snapshot(folder):
    return {p: p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def both(tmp_path_factory, documents):
    """A study under both protocols with two subjects of one tokenizer, run whole."""
    folder = tmp_path_factory.mktemp("both")
    write_documents(folder, documents)
    values = {
        "study": "both",
        "protocol": ["fair", "paper"],
        "data": {"source": str(folder / "text"), "held_out": 0.2, "train_tokenizer": 300,
                 "window": 16},
        "subjects": [
            {"name": "bio", "model": "biogpt-nano", "learning_rate": 4e-3},
            {"name": "neox", "model": "gpt-neox-nano", "learning_rate": 4e-3},
        ],
        "training": {"steps": 2, "batch_windows": 2},
        "cuts": [{"method": "magnitude", "amounts": [0, 0.5]}],
        "recovery": {"steps": 1, "batch_windows": 2, "learning_rate": 1e-3},
        "measures": ["loss"],
    }  # fmt: skip
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(values))
    before = dry_run(read_spec(file), folder / "run", CPU)
    assert not (folder / "run").exists()
    outcome = run(file, folder / "run")
    assert outcome.failures == {}
    return file, folder / "run", before, outcome


def test_a_dry_run_before_anything_is_there(both):
    found = both[2]
    assert [p.state for p in found.points] == ["missing"] * 8
    assert not any(p.known for p in found.points)
    assert found.unprepared == ["bio", "neox"]
    assert [(m.kind, m.subject, m.tokens, m.basis) for m in found.makings] == [
        ("grow", "bio", 64, "shapes"), ("grow", "neox", 64, "shapes"),
    ]  # fmt: skip
    assert found.seconds > 0 and found.peak_bytes > 1e8
    text = "\n".join(dry_run_lines(found))
    assert "8 points in" in text and "0 done, 8 missing" in text
    assert "GFLOP/s" in text and "nothing was written or trained" in text
    # An uncut point of `paper` does not recover, so it takes less.
    paper = [p for p in found.points if p.point.protocol == "paper" and p.point.amount == 0]
    fair = [p for p in found.points if p.point.protocol == "fair" and p.point.amount == 0]
    assert all(a.seconds < b.seconds for a, b in zip(paper, fair, strict=True))


def test_a_dry_run_knows_what_is_done_and_learns_from_it(both, tmp_path):
    file, out, _, outcome = both
    copy = tmp_path / "run"
    shutil.copytree(out, copy)
    gone, broken = outcome.records[1]["id"], outcome.records[5]["id"]
    (copy / "points" / f"{gone}.json").unlink()
    (copy / "points" / f"{broken}.json").write_text("{")
    before = snapshot(copy)
    found = dry_run(read_spec(file), copy, CPU)
    assert snapshot(copy) == before
    missing = [p for p in found.points if p.state != "done"]
    assert {p.point.id for p in missing} == {gone, broken}
    assert {p.basis for p in missing} == {"points"}
    assert (found.makings, found.speed, found.unprepared) == ([], None, [])
    assert "basis: what finished points" in "\n".join(dry_run_lines(found))
    whole = dry_run(read_spec(file), out, CPU)
    assert dry_run_lines(whole)[-1] == "nothing is missing"


def test_a_dry_run_refuses_what_a_run_refuses(both, small_study, write_study, capsys):
    _, out, _, _ = both
    before = snapshot(out)
    with pytest.raises(SystemExit) as end:
        main(["run", str(write_study(small_study)), "--out", str(out), "--dry-run"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "holds the study 'both', not 'small'" in said and len(said.splitlines()) == 1
    small_study["subjects"][0]["model"] = "biogpt-nan"
    with pytest.raises(ValueError, match="did you mean 'biogpt-nano'"):
        dry_run(read_spec(write_study(small_study)), out.parent / "other", CPU)
    assert snapshot(out) == before


def test_durations():
    assert [duration(s) for s in (0.2, 40, 720, 12600, 86400 * 9)] == [
        "1 s", "40 s", "12 min", "3.5 h", "9 days",
    ]  # fmt: skip


def test_protocols_are_not_compared_with_each_other(both):
    records = both[3].records
    assert {r["protocol"] for r in records} == {"fair", "paper"}
    assert [r["recovered"] for r in records if r["amount"] == 0] == [True, False] * 2
    # BioGPT's head is cut as published only.
    bio = [r for r in records if r["subject"] == "bio" and r["amount"] == 0]
    assert bio[0]["parameters"]["prunable"] < bio[1]["parameters"]["prunable"]
    found = curves(records)
    assert [c.label for c in found] == ["bio, fair", "bio, paper", "neox, fair", "neox, paper"]
    pairs = [(c.first.label, c.second.label) for c in compare_all(found)]
    assert pairs == [("bio, fair", "neox, fair"), ("bio, paper", "neox, paper")]
    assert "bio, paper" in " ".join(headline(found, compare_all(found)))


def test_runs_are_listed_and_broken_ones_said(both, tmp_path, capsys):
    _, out, _, outcome = both
    parent = tmp_path / "runs"
    for name in ("whole", "partly", "broken", "begun"):
        shutil.copytree(out, parent / name)
    (parent / "empty").mkdir()
    (parent / "note.txt").write_text("no run")
    points = parent / "partly" / "points"
    (points / f"{outcome.records[0]['id']}.json").unlink()
    (points / f"{outcome.records[1]['id']}.json").write_text("{")
    lost = outcome.records[2]["id"]
    (points / f"{lost}.json").unlink()
    (points / f"{lost}.failed.json").write_text(json.dumps({"point": "p", "failed": "no"}))
    (parent / "broken" / "study.json").write_text("[]")
    (parent / "begun" / "study.json").unlink()
    found = {state.folder.name: state for state in run_states(parent)}
    assert set(found) == {"whole", "partly", "broken", "begun"}
    whole, partly = found["whole"], found["partly"]
    assert (whole.study, whole.done, whole.points, whole.trouble) == ("both", 8, 8, None)
    assert whole.headline and "bio" in whole.headline
    assert (partly.done, partly.failed, partly.missing) == (5, 1, 2)
    assert outcome.records[1]["id"] in partly.trouble
    assert found["broken"].study is None and "study.json" in found["broken"].trouble
    assert "no study.json" in found["begun"].trouble
    with pytest.raises(SystemExit) as end:
        main(["runs", str(parent)])
    assert end.value.code == 0
    assert "partly: 5 of 8 points done, 1 failed, 2 missing" in capsys.readouterr().out
    with pytest.raises(ValueError, match="is not a folder"):
        run_states(parent / "nowhere")


def test_the_schema_is_current_and_says_what_each_field_is():
    schema = study_schema()
    kept = json.loads((ROOT / "experiments" / "study.schema.json").read_text("utf-8"))
    assert kept == schema, "run: resprout schema > experiments/study.schema.json"
    for part in (schema, *schema["$defs"].values()):
        for name, field in part.get("properties", {}).items():
            assert field.get("description"), name


def test_the_schema_takes_our_own_studies():
    jsonschema = pytest.importorskip("jsonschema")
    from resprout.study.spec_yaml import Loader

    check = jsonschema.Draft202012Validator(study_schema())
    for path in sorted((ROOT / "experiments").rglob("*.yaml")):
        values = yaml.load(path.read_text("utf-8"), Loader=Loader)
        assert not list(check.iter_errors(values)), path
    assert list(check.iter_errors(values | {"bogus": 1}))


class _Gated(BaseHTTPRequestHandler):
    """A Hub that knows every model and gives away none."""

    def do_GET(self):
        if self.path.startswith("/api/models/"):
            body = b'{"id": "some/model", "siblings": [], "tags": [], "sha": "%s"}' % (b"0" * 40)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
        else:
            body = b""
            self.send_response(401)
            self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815, as http.server calls it

    def log_message(self, *arguments):
        pass


@pytest.mark.slow
def test_a_gated_model_is_one_line_with_the_way_out(small_study, write_study, tmp_path):
    small_study["subjects"][1] = {"name": "neox", "model": "some/model"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Gated)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hf"),
           "HF_HUB_OFFLINE": "0"}  # fmt: skip
    command = [sys.executable, "-m", "resprout", "run", str(write_study(small_study))]
    try:
        done = subprocess.run(
            [*command, "--out", str(tmp_path / "run")],
            env=os.environ | hub, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "resprout: error: subjects.1.model: 'some/model' is gated: accept its licence at "
        "https://huggingface.co/some/model, then log in with `hf auth login` or set HF_TOKEN"
    ]
    assert not (tmp_path / "run").exists()


def test_the_hub_offline_is_one_line(small_study, write_study, tmp_path):
    small_study["subjects"][1] = {"name": "neox", "model": "some/model"}
    with pytest.raises(ValueError, match=r"subjects\.1\.model: .*HF_HUB_OFFLINE is set") as caught:
        run(write_study(small_study), tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_study_of_prepared_data_and_trained_models(tokens, write_study, tmp_path):
    """Tokens that are there already, two local models, one of another vocabulary refused."""
    model = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
    tokenizer = tokens.transformers_tokenizer(128)
    for name in ("one", "two"):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    values = {
        "study": "prepared",
        "seeds": [0, 1],
        "data": {"source": str(tokens.path), "window": 16},
        "subjects": [{"name": n, "model": str(tmp_path / n)} for n in ("one", "two")],
        "cuts": [{"method": "magnitude", "amounts": [0, 0.5]}],
        "measures": ["loss"],
    }
    outcome = run(write_study(values), tmp_path / "run")
    assert outcome.failures == {} and len(outcome.records) == 8
    assert {r["digests"]["tokens"] for r in outcome.records} == {tokens.digest}
    assert not any(r["recovered"] for r in outcome.records)
    # Seeds changed nothing: no word of intervals over training runs.
    found = curves(outcome.records)
    assert "One training run each" in headline(found, compare_all(found))[-1]
    words = json.loads((tmp_path / "two" / "tokenizer.json").read_text())
    words["model"]["merges"] = words["model"]["merges"][:-5]
    (tmp_path / "two" / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(ValueError, match=r"data\.source: .* is in another vocabulary"):
        run(write_study(values), tmp_path / "again")


def test_equal_weights_have_equal_names_and_others_others():
    one, again = (build(configuration("gpt2-nano", vocab_size=300), seed=0) for _ in range(2))
    assert weights_digest(one) == weights_digest(again)
    with torch.no_grad():
        again.lm_head.weight[0, 0] += 1
    assert weights_digest(one) != weights_digest(again)
    assert weights_digest(one) != weights_digest(one.to(torch.bfloat16))


def test_other_vocabularies_are_compared_per_byte_alone():
    records = two((3.0, 3.1, 3.5), (3.4, 3.6, 4.5))
    assert charts.pruning_curve(curves(records))[1].get_ylabel().endswith("(nats per token)")
    for record in records[3:]:
        record["digests"]["tokens"] = "others"
        record["measures"]["loss"]["tokens_per_byte"] = 0.4
    said = " ".join(headline(curves(records), compare_all(curves(records))))
    assert "bit per byte" in said and "nat per token" not in said
    _, axes = charts.pruning_curve(curves(records))
    assert axes.get_ylabel() == "held-out loss (bits per byte)"
    drawn = axes.containers[-1].lines[0].get_ydata()
    assert drawn == pytest.approx([0.4 * nats / math.log(2) for nats in (3.4, 3.6, 4.5)])
    headings, *rows = tables.table(records)
    assert "bits per byte" in headings
    assert not {"nats per token", "perplexity"} & set(headings)
    low, _, high = rows[-1][headings.index("95 % interval")].split()
    loss = records[-1]["measures"]["loss"]
    wanted = [0.4 * bound / math.log(2) for bound in loss["ci95"]]
    assert [float(low), float(high)] == pytest.approx(wanted, abs=6e-4)
    narrow = tables.terminal_table(records, 40)
    assert "bits per byte" in [column.header for column in narrow.columns]
