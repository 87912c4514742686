"""Subjects that cannot be had are refused before anything is prepared or trained."""

from itertools import product

from transformers import PreTrainedConfig, PreTrainedModel

from resprout.hints import did_you_mean, first_line
from resprout.models import agency
from resprout.models.description import skeleton
from resprout.models.positions import position_limit
from resprout.models.sizes import SIZES, configuration
from resprout.models.subject import load_configuration
from resprout.pruning.adapters import adapter_for
from resprout.pruning.request import read_request
from resprout.pruning.unit_scores import gates_of
from resprout.study.adaptation import agency_options
from resprout.study.early import check_names, check_positions
from resprout.study.spec import StudySpec, SubjectSpec


def shape_of(subject: SubjectSpec) -> PreTrainedConfig:
    """A subject's configuration; a size's without the vocabulary that its tokens will give it.

    Raises:
        ValueError: no such model, or a changed field that its configuration has not or refuses.
    """
    if subject.model not in SIZES:
        try:
            return load_configuration(subject.model, subject.revision)
        except ValueError as error:
            raise ValueError(f"model: {str(error).removeprefix('subject: ')}") from error
    shape = configuration(subject.model)
    # A family may name a field in its own way, and understand the usual name too.
    known = sorted({*shape.to_dict(), *type(shape).attribute_map})
    for field in subject.config:
        if field not in known:
            hint = did_you_mean(field, known)
            raise ValueError(f"config.{field}: {subject.model!r} has no such field{hint}")
    try:
        return configuration(subject.model, **subject.config)
    except Exception as error:  # transformers wraps some of its own around ours
        raise ValueError(f"config: {first_line(error)}") from error


def _check_cuts(spec: StudySpec, subject: SubjectSpec, model: PreTrainedModel) -> None:
    """Refuse a cut that a subject's family has no units for, or no gates.

    Args:
        spec: the study.
        subject: whose cuts are looked at.
        model: its skeleton, with its agency.

    Raises:
        ValueError: naming the cut.
    """
    wanted = spec.cuts_of(subject)
    for (index, cut), protocol in product(enumerate(spec.cuts), spec.protocols):
        if cut not in wanted:
            continue
        # The most that is cut: of nothing, anything may be asked.
        amount = None if cut.pattern else max(cut.amounts)
        try:
            request = read_request(model, cut.method, amount, protocol=protocol, **cut.options())
        except ValueError as error:
            raise ValueError(f"cuts.{index}.{error}") from error
        if request.method.score != "gate":
            continue
        try:
            adapter = adapter_for(model)
            gates_of(adapter, request.groups(adapter))
        except ValueError as error:
            able = [s.name for s in spec.subjects if s.agency is not None]
            raise ValueError(
                f"cuts.{index}.method: got {cut.method!r} for the subject {subject.name!r}, which "
                "has no agency and so no gates; allowed with 'subjects', of those with agency: "
                f"{', '.join(able) or 'none here'}"
            ) from error


def _with_agency(subject: SubjectSpec, config: PreTrainedConfig) -> PreTrainedModel:
    """The subject's skeleton, as it is cut.

    Raises:
        ValueError: its attention cannot carry agency.
    """
    model = skeleton(config)
    if subject.agency is not None:
        try:
            agency.enable(model, agency_options(subject.agency))
        except ValueError as error:
            said = str(error).removeprefix("model: ")
            raise ValueError(f"agency: subject {subject.name!r}: {said}") from error
    return model


def check_subjects(spec: StudySpec) -> None:
    """Refuse subjects that cannot be had.

    Raises:
        ValueError: a size without a learning rate, a trained model with one, no such model, a
            field that its configuration has not, agency on attention that cannot carry it, a cut
            that has no units or gates in it, or a context shorter than the study's windows.
    """
    check_names(spec)
    for index, subject in enumerate(spec.subjects):
        where = f"subjects.{index}"
        try:
            config = shape_of(subject)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from error
        try:
            model = _with_agency(subject, config)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from error
        _check_cuts(spec, subject, model)
        check_positions(spec, subject, position_limit(config))
