"""Subjects that cannot be had are refused before anything is prepared or trained."""

from transformers import PreTrainedConfig

from resprout.hints import did_you_mean, first_line
from resprout.models.description import skeleton
from resprout.models.positions import position_limit
from resprout.models.sizes import SIZES, configuration
from resprout.models.subject import load_configuration
from resprout.pruning.request import read_request
from resprout.study.spec import StudySpec, SubjectSpec

# What the study's own tokenizer decides.
_BY_TOKENIZER = ("vocab_size", "bos_token_id", "eos_token_id")


def shape_of(subject: SubjectSpec) -> PreTrainedConfig:
    """A subject's configuration; a size's without the vocabulary that its tokens will give it.

    Raises:
        ValueError: no such model, or a changed field that its configuration has not or refuses.
    """
    if subject.model not in SIZES:
        if subject.config:
            raise ValueError(
                f"config: allowed only for the sizes {', '.join(sorted(SIZES))}; "
                f"{subject.model!r} is already trained"
            )
        try:
            return load_configuration(subject.model, subject.revision)
        except ValueError as error:
            raise ValueError(f"model: {str(error).removeprefix('subject: ')}") from error
    shape = configuration(subject.model)
    # A family may name a field in its own way, and understand the usual name too.
    known = sorted({*shape.to_dict(), *type(shape).attribute_map})
    for field in subject.config:
        if field in _BY_TOKENIZER:
            raise ValueError(f"config.{field}: not allowed, the study's tokenizer decides it")
        if field not in known:
            hint = did_you_mean(field, known)
            raise ValueError(f"config.{field}: {subject.model!r} has no such field{hint}")
    try:
        return configuration(subject.model, **subject.config)
    except Exception as error:  # transformers wraps some of its own around ours
        raise ValueError(f"config: {first_line(error)}") from error


def _check_cuts(spec: StudySpec, config: PreTrainedConfig) -> None:
    """Refuse a cut that a subject's family has no units for.

    Raises:
        ValueError: naming the cut.
    """
    model = skeleton(config)
    for index, cut in enumerate(spec.cuts):
        amount = None if cut.pattern else cut.amounts[0]
        try:
            read_request(model, cut.method, amount, protocol=spec.protocol, **cut.options())
        except ValueError as error:
            raise ValueError(f"cuts.{index}.{error}") from error


def check_subjects(spec: StudySpec) -> None:
    """Refuse subjects that cannot be had.

    Raises:
        ValueError: a size without a learning rate, a trained model with one, no such model, a
            field that its configuration has not, or a context shorter than the study's windows.
    """
    for index, subject in enumerate(spec.subjects):
        where = f"subjects.{index}"
        try:
            config = shape_of(subject)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from error
        grown = subject.model in SIZES
        if grown and subject.learning_rate is None:
            raise ValueError(
                f"{where}.learning_rate: missing, needed to grow the size {subject.model!r}"
            )
        if grown and spec.data.train_tokenizer is None:
            raise ValueError(
                f"data.train_tokenizer: missing, needed to grow the size {subject.model!r}"
            )
        if not grown and subject.learning_rate is not None:
            raise ValueError(
                f"{where}.learning_rate: got {subject.learning_rate}, allowed only for the sizes "
                f"{', '.join(sorted(SIZES))}; {subject.model!r} is already trained"
            )
        _check_cuts(spec, config)
        limit = position_limit(config)
        if limit is not None and spec.data.window > limit:
            raise ValueError(
                f"data.window: got {spec.data.window}, allowed are up to the {limit} positions "
                f"of {subject.name!r}"
            )
