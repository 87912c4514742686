"""lm-eval on a model in memory: one evaluator for all tasks, one task at a time, quietly."""

import copy
import io
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from resprout.models.quiet import quiet_transformers

# lm-eval's own: its command line uses them too. Written into results and identities.
SEEDS = {"random": 0, "numpy": 1234, "torch": 1234, "fewshot": 1234}
BOOTSTRAP_RESAMPLES = 100_000
# lm-eval's bootstrap starts a process per core; for few items starting them takes longer.
_ITEMS_FOR_PROCESSES = 500
_TOKEN_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


def evaluator(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> Any:
    """lm-eval's view of a model, `HFLM`; made once for all tasks.

    Args:
        model: on its device; put in evaluation mode.
        tokenizer: copied, since lm-eval gives it a padding token.
        batch_size: rows per forward pass. Results of different batch sizes differ in their last
            digits; lm-eval's command line takes 1 unless told otherwise.
    """
    with quietly():
        from lm_eval.models.huggingface import HFLM

        class InMemory(HFLM):
            def get_model_info(self) -> dict[str, Any]:
                return {}  # the original asks the Hub

            def _loglikelihood_tokens(
                self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None
            ) -> Any:
                # Texts in windows come batch by batch; a bar for each would fill the screen.
                quiet = disable_tqdm or override_bs is not None
                return super()._loglikelihood_tokens(requests, quiet, override_bs)

        return InMemory(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)


def fit_generation(lm: Any, tasks: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Shorten what a task may generate where the model's context has no room for it.

    lm-eval ends with an assertion there. Half of the context is left for each of prompt and
    continuation.

    Returns:
        task -> `asked` and `used`, in tokens, of the tasks that were changed.
    """
    changed = {}
    for name, task in tasks.items():
        if task.get_config("output_type") != "generate_until":
            continue
        settings = task.get_config("generation_kwargs") or {}
        key = next((k for k in _TOKEN_LIMITS if settings.get(k) is not None), _TOKEN_LIMITS[0])
        asked = int(settings.get(key) or lm.max_gen_toks)
        if asked >= lm.max_length:
            used = max(1, lm.max_length // 2)
            task.set_config("generation_kwargs", {key: used}, update=True)
            changed[name] = {"asked": asked, "used": used}
    return changed


def evaluate(lm: Any, manager: Any, loaded: Any, shots: int | None, limit: int | None) -> Any:
    """lm-eval's results of one loaded task or group: `simple_evaluate` with its own seeds.

    Args:
        lm: from `evaluator`.
        manager: lm-eval's TaskManager.
        loaded: a Task or Group of lm-eval's.
        shots: None for the task's own number.
        limit: the first so many items of each task; None for all.
    """
    from lm_eval import simple_evaluate

    return simple_evaluate(
        model=lm,
        tasks=[loaded],
        num_fewshot=shots,
        batch_size=lm.batch_size,
        limit=limit,
        bootstrap_iters=BOOTSTRAP_RESAMPLES,
        task_manager=manager,
        random_seed=SEEDS["random"],
        numpy_random_seed=SEEDS["numpy"],
        torch_random_seed=SEEDS["torch"],
        fewshot_random_seed=SEEDS["fewshot"],
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Keep lm-eval, datasets and transformers silent; on a terminal progress bars stay."""
    import datasets  # type: ignore[import-untyped]

    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "evaluate", "nltk")]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    # Its bar for writing prompts runs for a moment, once for each of mmlu's 57 subjects.
    building = sys.modules.get("lm_eval.api.task")
    prompt_bar = getattr(building, "tqdm", None)
    if building is not None:
        building.__dict__["tqdm"] = lambda items, **_: items
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with ExitStack() as stack:
            stack.enter_context(quiet_transformers())
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(redirect_stdout(io.StringIO()))  # lm-eval prints, too
            if not sys.stderr.isatty():
                stack.enter_context(redirect_stderr(io.StringIO()))
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if building is not None:
            building.__dict__["tqdm"] = prompt_bar
        if not bars:
            datasets.enable_progress_bars()


@contextmanager
def same_results_faster(items: int) -> Iterator[None]:
    """Leave out what costs seconds per call of lm-eval's and changes no result.

    It describes the machine by running a dozen programs, asks git for the commit of the folder that
    the user happens to be in (git complains aloud where there is none), and starts a process per
    core for bootstraps, which for few items take less time than that. Python's generators are
    seeded per chunk, so both ways draw the same numbers.
    """
    from torch.utils import collect_env

    evaluator_module: Any = import_module("lm_eval.evaluator")
    described, alone = collect_env.get_pretty_env_info, os.environ.get("DISABLE_MULTIPROC")
    commit = evaluator_module.get_git_commit_hash
    collect_env.get_pretty_env_info = lambda: ""
    evaluator_module.get_git_commit_hash = lambda: None
    if items <= _ITEMS_FOR_PROCESSES:
        os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        collect_env.get_pretty_env_info = described
        evaluator_module.get_git_commit_hash = commit
        os.environ.pop("DISABLE_MULTIPROC", None)
        if alone is not None:
            os.environ["DISABLE_MULTIPROC"] = alone


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """lm-eval seeds the generators of the whole process: what they were is put back."""
    drawn, numbers = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(drawn)
        np.random.set_state(numbers)


@contextmanager
def seeded_language_detection() -> Iterator[None]:
    """IFEval asks langdetect for a text's language, which draws at random without a seed."""
    from langdetect import DetectorFactory

    seed = DetectorFactory.seed
    DetectorFactory.seed = SEEDS["random"]
    try:
        yield
    finally:
        DetectorFactory.seed = seed
