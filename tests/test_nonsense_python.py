"""Nonsense given to the public functions: one line that says what was got and what is allowed."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import resprout
from families import tiny
from nonsense import STUDY
from resprout.measure.loss_options import LossOptions
from resprout.measure.speed import SpeedOptions
from resprout.models import agency
from resprout.models.biogpt import BioGPTConfig
from resprout.models.sizes import build, configuration
from resprout.pruning.cut import Cut
from resprout.study.checks import check_subjects
from resprout.study.early import check_names
from resprout.study.spec import StudySpec

NAN, INF = float("nan"), float("inf")


def prune(w, *arguments, **options):
    return resprout.prune(w.model, *arguments, **options)


def glu(w, *arguments, **options):
    return resprout.prune(w.llama, *arguments, **options)


def wanda(w, calibration, **options):
    return resprout.prune(w.model, "wanda", 0.5, calibration=calibration, **options)


def recover(w, tokens=None, steps=1, **options):
    return resprout.recover(w.model, None, w.tokens if tokens is None else tokens, steps, **options)


def cycles(w, amount=0.5, steps=4, method="magnitude", **options):
    return resprout.prune_and_recover(w.model, method, amount, w.tokens, steps, **options)


def prepare(w, source=None, **options):
    options.setdefault("train_tokenizer", 300)
    return resprout.prepare_text(w.text if source is None else source, w.out / "new", **options)


def evaluate(w, measures="loss", **options):
    options.setdefault("data", str(w.tokens.path))
    return resprout.evaluate(w.model, w.tokenizer, measures, **options)


def study(w, own, **fields):
    data = STUDY["data"] | {"source": w.text}
    subjects = [{"name": "a"} | own]
    return StudySpec.model_validate(STUDY | {"subjects": subjects, "data": data} | fields)


def rounded(w, amounts):
    """A study's cut by a multiple of far more neurons than there are."""
    cut = {"method": "glu-maw", "amounts": amounts, "round_to": 10**5}
    check_subjects(study(w, {"model": "llama-nano", "learning_rate": 1e-3}, cuts=[cut]))


def subject(w, model, **fields):
    """A study's subject with a revision, as `resprout run` checks it at once."""
    check_names(study(w, {"model": str(model), "revision": "step9", **fields}))


def config(w, **fields):
    return BioGPTConfig(**fields)


ROWS = [
    # amounts
    ("amount above 1", prune, ("magnitude", 1.5), {}, "amount: got 1.5|from 0 to 1"),
    ("amount as percent", prune, ("magnitude", 45), {}, "amount: got 45|did you mean 0.45"),
    ("amount negative", prune, ("magnitude", -0.1), {}, "amount: got -0.1|from 0 to 1"),
    ("amount nan", prune, ("magnitude", NAN), {}, "amount: got nan|from 0 to 1"),
    ("amount inf", prune, ("magnitude", INF), {}, "amount: got inf|from 0 to 1"),
    ("amount a text", prune, ("magnitude", "0.5"), {}, "amount: got '0.5'|a number"),
    ("amount a truth", prune, ("magnitude", True), {}, "amount: got True|a number"),
    ("amount a list", prune, ("magnitude", [0.5]), {}, "amount: got [0.5]|a number"),
    ("amount a tensor", prune, ("magnitude", torch.tensor(0.5)), {}, "amount: got tensor|a number"),
    ("amount missing", prune, ("magnitude",), {}, "amount: missing|from 0 to 1"),
    ("amount against pattern", prune, ("2:4", 0.3), {}, "amount: got 0.3|leave the amount out"),
    # methods and scopes
    ("method unknown", prune, ("magnitud", 0.5), {}, "method: got 'magnitud'|'magnitude'"),
    ("method empty", prune, ("", 0.5), {}, "method: got ''|allowed are magnitude"),
    ("method None", prune, (None, 0.5), {}, "method: got None|allowed are magnitude"),
    ("method a number", prune, (7, 0.5), {}, "method: got 7|allowed are magnitude"),
    ("method of another family", prune, ("branches-magnitude", 0.5), {}, "gpt_neox has no branche"),
    ("pattern backwards", prune, ("4:2",), {}, "pattern: got '4:2'|n:m with 1 <= n < m"),
    ("pattern of nothing", prune, ("0:4",), {}, "pattern: got '0:4'|1 <= n < m"),
    ("pattern for units", glu, ("glu-maw-2:4",), {}, "scope: got '2:4'|allowed for glu-maw"),
    ("scope unknown", prune, ("magnitude", 0.5), {"scope": "layer"}, "scope: got 'layer'|global"),
    ("scope a number", prune, ("magnitude", 0.5), {"scope": 3}, "scope: got 3|allowed for magnit"),
    # further options of a cut
    ("cut unknown", prune, ("magnitude", 0.5), {"cut": "drop"}, "cut: got 'drop'|mask, remove"),
    ("cut None", prune, ("magnitude", 0.5), {"cut": None}, "cut: got None|mask, remove"),
    ("weights removed", prune, ("magnitude", 0.5), {"cut": "remove"}, "cut: got 'remove'|mask"),
    ("seed negative", prune, ("random", 0.5), {"seed": -1}, "seed: got -1|whole number from 0"),
    ("seed a fraction", prune, ("random", 0.5), {"seed": 0.5}, "seed: got 0.5|whole number"),
    ("seed huge", prune, ("random", 0.5), {"seed": 2**70},
     "seed: got 1180591620717411303424|to 42"),
    ("protocol unknown", prune, ("magnitude", 0.5), {"protocol": "x"},
     "protocol: got 'x'|fair, pa"),
    ("dead threshold", prune, ("magnitude", 0.5), {"dead_threshold": 2}, "dead_threshold: got 2|0"),
    ("dead unit alone", prune, ("magnitude", 0.5), {"dead_unit": "head"},
     "dead_unit: got 'head' w"),
    ("dead unit unknown", prune, ("magnitude", 0.5), {"dead_threshold": 0.9, "dead_unit": "tail"},
     "dead_unit: got 'tail'|head, mlp_neuron"),
    ("head unit", prune, ("heads-random", 0.5), {"head_unit": "key"}, "head_unit: got 'key'|group"),
    ("rate zero", glu, ("glu-maw",), {"expansion_rate": 0}, "expansion_rate: got 0|above 0"),
    ("rate nan", glu, ("glu-maw",), {"expansion_rate": NAN}, "expansion_rate: got nan|above 0"),
    ("rate too high", glu, ("glu-maw",), {"expansion_rate": 9e5},
     "expansion_rate: got 900000|presen"),
    ("rate with amount", glu, ("glu-maw", 0.5), {"expansion_rate": 90}, "amount: got 0.5|one of"),
    ("rate for weights", prune, ("magnitude",), {"expansion_rate": 90},
     "expansion_rate: got 90|MLP"),
    ("round to nothing", glu, ("glu-maw", 0.5), {"round_to": 0}, "round_to: got 0|from 1"),
    ("previous a text", prune, ("magnitude", 0.5), {"previous": "cut"}, "previous: got str|Cut"),
    ("sequential a word", prune, ("wanda", 0.5), {"sequential": "no"},
     "sequential: got 'no'|True, False"),
    ("seed an array", prune, ("random", 0.5), {"seed": np.zeros((3, 3))}, "seed: got array|whole"),
    ("amount an array", prune, ("magnitude", np.zeros((3, 3))), {}, "amount: got array|a number"),
    ("rate of many digits", glu, ("glu-maw",), {"expansion_rate": 10**400}, "expansion_rate: got"),
    ("round to all", glu, ("glu-maw", 0.5), {"round_to": 20},
     "round_to: got 20|less than the 20 GLU neurons of layer 0"),
    ("round to more", glu, ("glu-maw",), {"expansion_rate": 30, "round_to": 10**5},
     "round_to: got 100000|the 20 GLU neurons"),
    ("round to more in a study", rounded, ([0, 0.5],), {},
     "cuts.0.round_to: got 100000|GLU neurons of layer 0"),
    ("progress a number", prune, ("magnitude", 0.5), {"progress": 3}, "progress: got 3|a function"),
    # calibration text
    ("no calibration", prune, ("wanda", 0.5), {}, "calibration: missing|a prepared folder"),
    ("calibration of words", wanda, (["a", "b"],), {}, "tokenizer: got none|fast form"),
    ("calibration empty", wanda, (torch.zeros(0, 4, dtype=torch.long),), {}, "calibration"),
    ("calibration of fractions", wanda, (torch.rand(2, 4),), {}, "calibration|whole"),
    ("calibration flat", wanda, (torch.zeros(4, dtype=torch.long),), {},
     "calibration: got 4 tokens|(1, n)"),
    ("calibration foreign", wanda, (torch.full((2, 4), 10**6),), {},
     "ids go up to 1000000|up to 299"),
    ("calibration negative", wanda, (torch.full((2, 4), -1),), {}, "got the id -1|0 or more"),
    ("calibration nowhere", wanda, ("/no/such/folder",), {}, "calibration"),
    # models that are none
    ("model a text", lambda w: resprout.prune("gpt2", "magnitude", 0.5),
     (), {}, "model: got str|resprout.load"),
    ("model a module", lambda w: resprout.prune(torch.nn.Linear(2, 2), "magnitude", 0.5), (), {},
     "model: got Linear|PreTrainedModel"),
    ("load nothing", lambda w: resprout.load(""), (), {}, "subject: ''"),
    ("load a typo", lambda w: resprout.load("biogpt-nanno"),
     (), {}, "'biogpt-nanno'|did you mean 'biogpt-nano'"),
    ("load a folder", lambda w: resprout.load(w.out), (), {}, "no config.json"),
    ("load on tpu", lambda w: resprout.load("biogpt-nano", device="tpu"),
     (), {}, "device: got 'tpu'|auto, cpu"),
    ("load as int8", lambda w: resprout.load("biogpt-nano", dtype="int8"),
     (), {}, "dtype: got 'int8'|float32"),
    ("load many times", lambda w: resprout.load("nobody/x", device_map=3),
     (), {}, "device_map: got 3"),
    # cuts
    ("remove a text", lambda w: resprout.remove(w.model, "cut"), (), {}, "cut: got str|Cut"),
    ("remove weights", lambda w: resprout.remove(w.model, w.cut), (), {}, "cut: |single weights"),
    ("save over", lambda w: resprout.save(w.model, None, w.full),
     (), {}, "path: |new or an empty folder"),
    ("save two ways",
     lambda w: resprout.save(w.model, None, w.out / "x", sparse=True, portable=True),
     (), {}, "portable: not together with sparse"),
    ("save a text", lambda w: resprout.save("model", None, w.out / "x"),
     (), {}, "model: got str|PreTrainedModel"),
    ("save a dict", lambda w: resprout.save(w.model, {}, w.out / "x"), (), {}, "cut: got dict|Cut"),
    ("save nowhere", lambda w: resprout.save(w.model, None, None), (), {}, "path: got None|a path"),
    ("save to a number", lambda w: resprout.save(w.model, None, 3), (), {}, "path: got 3|a path"),
    ("save to NUL", lambda w: resprout.save(w.model, None, "a\0b"), (), {}, "path: got 'a|a path"),
    ("save a tokenizer's name", lambda w: resprout.save(w.model, None, w.out / "x", "gpt2"),
     (), {}, "tokenizer: got str|resprout.load"),
    ("save another's cut", lambda w: resprout.save(w.llama, w.cut, w.out / "x"),
     (), {}, "cut: its mask of|does not fit this model"),
    ("save another's removal", lambda w: resprout.save(w.llama, w.removed, w.out / "x"),
     (), {}, "cut: the manifest of another model|30 GLU neurons|LlamaForCausalLM has 60"),
    ("save sparse by a word", lambda w: resprout.save(w.model, None, w.out / "x", sparse="no"),
     (), {}, "sparse: got 'no'|True, False"),
    ("save portable by a word", lambda w: resprout.save(w.model, None, w.out / "x", portable=1),
     (), {}, "portable: got 1|True, False"),
    ("save with a number", lambda w: resprout.save(w.model, None, w.out / "x", extra=3),
     (), {}, "extra: got 3|a function"),
    ("read a cut of 3", lambda w: Cut.load(3), (), {}, "cut: got 3|a path"),
    ("read no cut", lambda w: Cut.load(w.out), (), {}, "cut.json"),
    # recovery
    ("steps negative", recover, (), {"steps": -1}, "steps: got -1|greater than or equal to 0"),
    ("steps a fraction", recover, (), {"steps": 1.5}, "steps: got 1.5|integer"),
    ("steps a text", recover, (), {"steps": "3"}, "steps: got '3'|integer"),
    ("window 0", recover, (), {"window": 0}, "window: got 0|1 to"),
    ("window too long", recover, (), {"window": 10**9}, "window: got 1000000000|1 to"),
    ("window a text", recover, (), {"window": "8"}, "window: got '8'|1 to"),
    ("batch 0", recover, (), {"batch_windows": 0},
     "batch_windows: got 0|greater than or equal to 1"),
    ("rate negative", recover, (), {"learning_rate": -1e-3}, "learning_rate: got -0.001|greater"),
    ("rate infinite", recover, (), {"learning_rate": INF}, "learning_rate: got inf|finite"),
    ("decay negative", recover, (), {"weight_decay": -1.0}, "weight_decay: got -1.0|greater"),
    ("warm-up negative", recover, (), {"warmup_steps": -1}, "warmup_steps: got -1|greater"),
    ("recovery seed", recover, (), {"seed": -1}, "seed: got -1|whole number from 0"),
    ("recovery seed huge", recover, (), {"seed": 2**40}, "seed: got 1099511627776|to 42"),
    ("schedule", recover, (), {"schedule": "cube"}, "schedule: got 'cube'|'cubic'"),
    ("schedule without amount", recover, (), {"schedule": "cubic"}, "schedule: got 'cubic'|amount"),
    ("ramp alone", recover, (), {"ramp_steps": 3}, "ramp_steps: only a schedule"),
    ("precision", recover, (), {"precision": "fp8"}, "precision: got 'fp8'|auto, bf16, fp32"),
    ("checkpoints nowhere", recover, (), {"checkpoint_every": 1},
     "checkpoint_every: needs a work_f"),
    ("tokens nowhere", recover, ("/no/such/folder",), {}, "tokens: '/no/such/folder'|not prepared"),
    ("tokens a number", recover, (5,), {}, "shape ()|(n,) integers"),
    ("tokens of fractions", recover, (np.zeros(99),), {}, "float64|(n,) integers"),
    ("tokens foreign", recover, (np.full(999, 4000),), {}, "tokens: got id 4000|0 to 299"),
    ("tokens negative", recover, (np.full(999, -3),), {}, "tokens: got|integers from 0"),
    ("tokens too few", recover, (np.zeros(3, dtype=int),), {"window": 16}, "tokens"),
    ("teacher alike", lambda w: recover(w, teacher=w.model), (), {}, "teacher: shares weights"),
    ("teacher foreign", lambda w: recover(w, teacher=w.llama), (), {}, "teacher"),
    ("teacher a name", lambda w: recover(w, teacher="gpt2"),
     (), {}, "teacher: got str|resprout.load"),
    ("teacher a module", lambda w: recover(w, teacher=torch.nn.Linear(2, 2)),
     (), {}, "teacher: got Linear|PreTrainedModel"),
    ("temperature", lambda w: recover(w, teacher=w.other, temperature=0),
     (), {}, "temperature: got 0|above 0"),
    ("distillation", lambda w: recover(w, teacher=w.other, distillation_weight=2),
     (), {}, "got 2|0 to 1"),
    ("cut a text", lambda w: resprout.recover(w.model, "cut", w.tokens, 1),
     (), {}, "cut: got str|Cut"),
    # cutting and recovering in turn
    ("cycles 0", cycles, (), {"cycles": 0}, "cycles: got 0|whole number from 1"),
    ("more cycles than steps", cycles, (), {"cycles": 9}, "steps: got 4|whole number from 9"),
    ("cycles and schedule", cycles, (), {"cycles": 2, "schedule": "cubic"},
     "cycles: got 2|1 with it"),
    ("cycles of a pattern", cycles, (0.5,), {"method": "2:4", "cycles": 2},
     "pattern 2:4|cannot grow"),
    ("options of others", cycles, (), {"prune_options": {"amount": 1}},
     "prune_options: got 'amount'"),
    ("removed in turn", cycles, (), {"method": "heads-random", "prune_options": {"cut": "remove"}},
     "cut: got 'remove'|mask"),
    # preparing text
    ("source nowhere", prepare, ("/no/such/text",), {}, "source: "),
    ("source empty", prepare, ("",), {}, "source: "),
    ("fraction 1", prepare, (), {"val_fraction": 1.0}, "val_fraction: got 1.0"),
    ("fraction nan", prepare, (), {"val_fraction": NAN}, "val_fraction: got nan"),
    ("target negative", prepare, (), {"target_tokens": -5}, "target_tokens: got -5"),
    ("vocabulary tiny", prepare, (), {"train_tokenizer": 3}, "train_tokenizer: got 3|25"),
    ("vocabulary huge", prepare, (), {"train_tokenizer": 10**9}, "train_tokenizer: got 1000000000"),
    ("two tokenizers", prepare, (), {"tokenizer": "gpt2"}, "tokenizer"),
    ("prepare protocol", prepare, (), {"protocol": "best"}, "protocol: got 'best'|fair, paper"),
    ("retries negative", prepare, (), {"max_retries": -1}, "max_retries: got -1"),
    ("source None", lambda w: resprout.prepare_text(None, w.out / "new"),
     (), {}, "source: got None|'stdlib'"),
    ("source a number", prepare, (3,), {}, "source: got 3|the path of"),
    ("source a list", prepare, (["text"],), {}, "source: got ['text']|the path of"),
    ("into None", lambda w: resprout.prepare_text(w.text, None), (), {}, "out_dir: got None|path"),
    ("into NUL", lambda w: resprout.prepare_text(w.text, "a\0b"), (), {}, "out_dir: got 'a|a path"),
    ("target a text", prepare, (), {"target_tokens": "5"}, "target_tokens: got '5'|a whole number"),
    ("target a fraction", prepare, (), {"target_tokens": 1.5}, "target_tokens: got 1.5|a whole"),
    ("target a truth", prepare, (), {"target_tokens": True}, "target_tokens: got True|a whole"),
    ("fraction a text", prepare, (), {"val_fraction": "x"}, "val_fraction: got 'x'|above 0"),
    ("fraction None", prepare, (), {"val_fraction": None}, "val_fraction: got None|above 0"),
    ("protocol None", prepare, (), {"protocol": None}, "protocol: got None|fair, paper"),
    ("protocol a list", prepare, (), {"protocol": ["fair"]}, "protocol: got ['fair']|fair, paper"),
    ("retries a text", prepare, (), {"max_retries": "x"}, "max_retries: got 'x'|a whole number"),
    ("retries a fraction", prepare, (), {"max_retries": 1.5}, "max_retries: got 1.5|a whole"),
    ("tokenizer a number", prepare, (), {"tokenizer": 3, "train_tokenizer": None},
     "tokenizer: got 3|a path"),
    ("vocabulary a text", prepare, (), {"train_tokenizer": "300"}, "train_tokenizer: got '300'"),
    ("vocabulary 300.0", prepare, (), {"train_tokenizer": 300.0}, "train_tokenizer: got 300.0|257"),
    ("bytes a fraction", prepare, (), {"train_tokenizer_bytes": 1.5},
     "train_tokenizer_bytes: got 1.5|a whole number"),
    ("field a number", prepare, (), {"text_field": 3}, "text_field: got 3|a text"),
    ("split a number", prepare, (), {"split": 3}, "split: got 3|a text"),
    ("revision a number", prepare, (), {"revision": 3}, "revision: got 3|a text"),
    ("start over by a word", prepare, (), {"start_over": "no"}, "start_over: got 'no'|True, False"),
    ("told nobody", prepare, (), {"notice": None}, "notice: got None|a function"),
    ("progress nowhere", prepare, (), {"progress": 3}, "progress: got 3|a function"),
    # measuring
    ("measure unknown", evaluate, ("los",), {}, "measures|'loss'"),
    ("measure empty", evaluate, ([],), {}, "measures"),
    ("data nowhere", evaluate, (), {"data": "/no/such/data"}, "/no/such/data"),
    ("limit 0", evaluate, ("tasks",), {"tasks": "arc_easy", "limit": 0}, "limit: got 0"),
    ("evaluate a text", lambda w: resprout.evaluate("gpt2"),
     (), {}, "model: got str|resprout.load"),
    ("loss window", lambda w: evaluate(w, loss=LossOptions(window=-1)), (), {}, "window: got -1"),
    ("evaluate without a head", lambda w: resprout.evaluate(w.llama.base_model, w.tokenizer),
     (), {}, "model: got LlamaModel|no head|AutoModelForCausalLM"),
    ("recover without a head", lambda w: resprout.recover(w.llama.base_model, None, w.tokens, 1),
     (), {}, "model: got LlamaModel|no head|AutoModelForCausalLM"),
    ("teacher without a head", lambda w: recover(w, teacher=w.llama.base_model), (), {},
     "teacher: got LlamaModel|no head|AutoModelForCausalLM"),
    ("evaluate with a name", lambda w: resprout.evaluate(w.model, "gpt2", "loss"),
     (), {}, "tokenizer: got str|resprout.load"),
    ("measures a number", evaluate, (3,), {}, "measures: got 3|comma-separated"),
    ("measures of nothing", evaluate, ([None],), {}, "measures: got [None]|comma-separated"),
    ("tasks a number", evaluate, ("tasks",), {"tasks": 3}, "tasks: got 3|comma-separated"),
    ("tasks of numbers", evaluate, ("tasks",), {"tasks": [3]}, "tasks: got [3]|comma-separated"),
    ("data a number", evaluate, (), {"data": 3}, "data: got int|a list of texts"),
    ("data a mapping", evaluate, (), {"data": {"a": "b"}}, "data: got dict|a list of texts"),
    ("loss a dict", evaluate, (), {"loss": {"window": 8}}, "loss: got dict|a LossOptions"),
    ("speed a number", evaluate, ("speed",), {"speed": 3}, "speed: got int|a SpeedOptions"),
    ("text a text", evaluate, ("text",), {"text": "x"}, "text: got str|a TextOptions"),
    ("reference a model", lambda w: evaluate(w, "text", reference=w.other),
     (), {}, "reference: got GPTNeoXForCausalLM|a Reference"),
    ("energy a number", evaluate, ("energy",), {"energy": 3}, "energy: got int|an EnergyOptions"),
    ("task data a number", evaluate, (), {"task_data": 3}, "task_data: got 3|a path"),
    ("kept in a number", evaluate, (), {"folder": 3}, "folder: got 3|a path"),
    ("notice nobody", evaluate, (), {"notice": None}, "notice: got None|a function"),
    ("window of a text", lambda w: LossOptions(window="8"), (), {}, "window: got '8'|whole number"),
    ("window a fraction", lambda w: LossOptions(window=1.5), (), {}, "window: got 1.5|whole"),
    ("window a truth", lambda w: LossOptions(window=True), (), {}, "window: got True|whole"),
    ("window nan", lambda w: LossOptions(window=NAN), (), {}, "window: got nan|whole number"),
    ("stride a text", lambda w: LossOptions(stride="3"), (), {}, "stride: got '3'|whole number"),
    ("windows at once", lambda w: LossOptions(batch_windows="x"), (), {}, "batch_windows: got 'x'"),
    ("seed of a loss", lambda w: LossOptions(seed="x"), (), {}, "seed: got 'x'|whole number"),
    ("precision a list", lambda w: LossOptions(precision=["bf16"]),
     (), {}, "precision: got ['bf16']|fp32"),
    ("unequal by a word", lambda w: SpeedOptions(unequal="no"), (), {}, "unequal: got 'no'|True"),
    # gates
    ("gates of a layer that is not", lambda w: agency.set_gates(w.gated, 99, 0.5),
     (), {}, "layer: got 99|0 to"),
    ("gate above 1", lambda w: agency.set_gates(w.gated, 0, 1.5), (), {}, "gate"),
    ("state unknown", lambda w: agency.set_state(w.gated, 0, 0, "asleep"),
     (), {}, "state: got 'asleep'|active"),
    ("head that is not", lambda w: agency.set_state(w.gated, 0, 99, "active"),
     (), {}, "head: got 99|0 to"),
    ("gates of none", lambda w: agency.set_gates(w.model, 0, 0.5), (), {}, "agency"),
    ("gate a text", lambda w: agency.set_gates(w.gated, 0, "x"), (), {}, "gates: got 'x'|numbers"),
    ("gate None", lambda w: agency.set_gates(w.gated, 0, None), (), {}, "gates: got None|numbers"),
    ("gates on no device", lambda w: agency.set_gates(w.gated, 0, torch.ones(4, device="meta")),
     (), {}, "gates: got tensor|numbers"),
    ("consent a word", lambda w: agency.set_consent(w.gated, 0, 0, "no"),
     (), {}, "consent: got 'no'|True, False"),
    ("agency of nothing", lambda w: agency.enable(None), (), {}, "model: got NoneType|Pre"),
    ("agency of a name", lambda w: agency.enable("gpt2"), (), {}, "model: got str|resprout.load"),
    ("agency of a layer", lambda w: agency.enable(torch.nn.Linear(2, 2)),
     (), {}, "model: got Linear|PreTrainedModel"),
    ("agency by a dict", lambda w: agency.enable(w.llama, {"momentum": 0.5}),
     (), {}, "options: got dict|an AgencyOptions"),
    ("no agency off", lambda w: agency.disable("gpt2"), (), {}, "model: got str|resprout.load"),
    ("fold by a word", lambda w: agency.disable(w.gated, fold="no"), (), {}, "fold: got 'no'|True"),
    ("report of a name", lambda w: agency.agency_report("gpt2"), (), {}, "model: got str"),
    ("heads of nothing", lambda w: agency.heads_of(None), (), {}, "model: got NoneType"),
    ("is enabled a name", lambda w: agency.is_enabled("gpt2"), (), {}, "model: got str"),
    ("calibrate on lists", lambda w: agency.calibrate(w.gated, [[1, 2]]),
     (), {}, "ids: got list|a tensor of whole numbers"),
    ("calibrate on an array", lambda w: agency.calibrate(w.gated, np.zeros((2, 4), dtype=int)),
     (), {}, "ids: got ndarray|a tensor of whole numbers"),
    ("calibrate on truths", lambda w: agency.calibrate(w.gated, torch.ones(2, 4, dtype=torch.bool)),
     (), {}, "ids: got (2, 4) of torch.bool|whole numbers"),
    ("calibrate on meta", lambda w: agency.calibrate(w.gated, torch.ones(2, 4, device="meta")),
     (), {}, "ids: got one that is meta|whole numbers"),
    # versions of what has none
    ("revision of a size", subject, ("gpt-neox-nano",), {"learning_rate": 1e-3},
     "subjects.0.revision: got 'step9'|of the Hub|'gpt-neox-nano' is a size"),
    ("revision of a folder", lambda w: subject(w, w.full), (), {},
     "subjects.0.revision: got 'step9'|of the Hub|on this machine"),
    # the dendritic configuration
    ("width 0", config, (), {"hidden_size": 0}, "hidden_size"),
    ("layers negative", config, (), {"num_hidden_layers": -1}, "num_hidden_layers"),
    ("nmda unknown", config, (), {"nmda": "on"}, "nmda: got 'on'|off"),
    ("passes 0", config, (), {"n_passes": 0}, "n_passes"),
    ("kernel even", config, (), {"conv_kernel_size": 0}, "conv_kernel_size"),
    ("layout too short", config, (), {"cortical_layout": [[4]]}, "cortical_layout"),
    ("layout of words", config, (), {"cortical_layout": ["a"] * 12}, "cortical_layout"),
    ("feedback downwards", config, (), {"feedback_pairs": [[0, 5]]}, "feedback_pairs"),
    ("feedback outside", config, (), {"feedback_pairs": [[50, 0]]}, "feedback_pairs"),
    ("dropout 2", config, (), {"dropout": 2.0}, "dropout"),
    ("start unknown", config, (), {"init": "zero"}, "init: got 'zero'|published, scaled"),
]  # fmt: skip


@cache
def parts():
    neox = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
    other = build(configuration("gpt-neox-nano", vocab_size=300), seed=1)
    spare = build(configuration("gpt-neox-nano", vocab_size=300), seed=0)
    gated = agency.enable(tiny("gpt2"))
    return {
        "model": neox,
        "other": other,
        "llama": tiny("llama"),
        "gated": gated,
        "cut": resprout.prune(spare, "magnitude", 0.5),
        "removed": resprout.prune(tiny("llama"), "glu-random", 0.5, cut="remove"),
    }


@pytest.fixture
def world(tmp_path, tokens):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("some words " * 99)
    (tmp_path / "out").mkdir()
    return SimpleNamespace(
        **parts(),
        tokens=tokens,
        tokenizer=tokens.transformers_tokenizer(),
        full=tmp_path / "full",
        text=str(tmp_path / "text"),
        out=tmp_path / "out",
    )


def state(w, folder):
    files = {path: path.stat().st_size for path in folder.rglob("*")}
    return files, [t.clone() for t in w.model.state_dict().values()]


@pytest.mark.parametrize(("call", "arguments", "options", "words"), [row[1:] for row in ROWS],
                         ids=[row[0].replace(" ", "-") for row in ROWS])  # fmt: skip
def test_one_line_says_what_was_got_and_what_is_allowed(
    world, tmp_path, call, arguments, options, words
):
    files, weights = state(world, tmp_path)
    with pytest.raises(ValueError) as told:
        call(world, *arguments, **options)
    line = str(told.value)
    assert "\n" not in line and len(line) < 700, line
    for word in words.split("|"):
        assert word in line
    after, now = state(world, tmp_path)
    assert after == files
    assert all(torch.equal(left, right) for left, right in zip(weights, now, strict=True))


def test_there_are_many_and_none_twice():
    assert len(ROWS) > 50 and len({row[0] for row in ROWS}) == len(ROWS)


def test_numbers_of_numpy_are_numbers_and_paths_are_paths(world, tmp_path):
    """JSON holds none of NumPy's: they become Python's where they come in."""
    model = tiny("llama")
    cut = resprout.prune(
        model, "glu-random", np.float32(0.5), seed=np.int64(3), round_to=np.int64(5), cut="remove"
    )
    resprout.save(model, cut, tmp_path / "cut", sparse=np.False_)
    assert Cut.load(tmp_path / "cut").seed == 3
    assert type(LossOptions(window=np.int64(8), seed=np.uint8(1)).window) is int
    for i in range(9):
        (tmp_path / "text" / f"{i}.txt").write_text(f"some words of the text number {i}, " * 9)
    asked = {"target_tokens": np.int64(10**6), "val_fraction": np.float32(0.3), "notice": str}
    first = resprout.prepare_text(
        tmp_path / "text", tmp_path / "a", train_tokenizer=np.int64(300), **asked
    )
    second = resprout.prepare_text(
        str(tmp_path / "text"), str(tmp_path / "b"), tokenizer=tmp_path / "a", **asked
    )
    assert first.digest == second.digest
    agency.set_consent(world.gated, 0, 0, np.False_)
    assert not agency.heads_of(world.gated)[0].consent[0]
    agency.set_consent(world.gated, 0, 0, True)


def test_a_cut_of_nothing_may_be_rounded_to_anything():
    cut = resprout.prune(tiny("llama"), "glu-maw", 0, round_to=20)
    assert cut.achieved == 0 and cut.removed == 0
