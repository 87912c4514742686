"""What names and files tell of a study, before torch is imported: refused at once."""

import os
from pathlib import Path

from resprout.files import read_json, unwritable
from resprout.measure.tasks.request import TaskRequest, check_request
from resprout.models.by_name import check_device, check_tokenizer_name, known_limit
from resprout.models.names import SIZES, check_subject, plain_configuration
from resprout.pruning.families import check_kind, check_not_quantised
from resprout.pruning.methods import method as method_named
from resprout.refusals import check_revision
from resprout.study.source_early import check_apart, check_text, of_data
from resprout.study.spec import StudySpec, SubjectSpec
from resprout.study.spec_measures import TaskSpec

# What the study's own tokenizer decides.
BY_TOKENIZER = ("vocab_size", "bos_token_id", "eos_token_id")
# What families call their layers, and how many a model is made of at most, as `BioGPTConfig` says.
_LAYERS = ("num_hidden_layers", "n_layers", "n_layer")
MOST_LAYERS = 4096
# What a run makes before it says whose folder it is.
_FIRST = ("data", "subjects")


def check_early(spec: StudySpec, folder: Path, device: str, on_cluster: bool = False) -> None:
    """Refuse what can be refused at once; nothing is written.

    Args:
        spec: the study.
        folder: of the run.
        device: as the user named it.
        on_cluster: whether points are worked elsewhere, where devices are others.

    Raises:
        ValueError: naming the field or option, the value got and what is allowed.
    """
    if not on_cluster:
        check_device(device)
    check_folder(spec.study, folder)
    check_source(spec, folder)
    check_names(spec)
    if "tasks" in spec.measures and spec.tasks is not None:
        try:
            check_request(task_request(spec.tasks))
        except ValueError as error:
            raise as_field(error) from error


def check_source(spec: StudySpec, folder: Path) -> None:
    """Refuse text that cannot be used, as far as a look tells, and a run's folder in the text.

    Raises:
        ValueError: naming the field or the folder.
    """
    data = spec.data
    check_apart("out", folder, "data.source", data.source)
    try:
        check_text(data.source, data.held_out, data.window)
    except (ValueError, OSError) as error:
        raise of_data(error) from error


def check_folder(study: str, folder: Path) -> None:
    """Refuse a folder that cannot be written, or that holds something else.

    Raises:
        ValueError: naming it.
    """
    named = f"out: {str(folder)!r}"
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(
            f"{named} is a file and cannot be written as a folder; allowed is a folder"
        )
    if (blocked := unwritable(folder)) is not None:
        raise ValueError(f"{named} cannot be written, because of {str(blocked)!r}")
    if not folder.is_dir():
        return
    described = folder / "study.json"
    if not described.is_file():
        names = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
        foreign = [name for name in names if name not in _FIRST]
        if foreign and "points" not in names:
            raise ValueError(
                f"{named} holds {foreign[0]!r}, which is no run's; allowed is a new or empty "
                "folder, or one of this study"
            )
        return
    try:
        other = read_json(described)["study"]
    except (ValueError, KeyError, TypeError):
        return  # the run sets it aside, and makes it anew from the study's file
    if other != study:
        raise ValueError(
            f"{named} holds the study {other!r}, not {study!r}; allowed is a folder of its own"
        )


def check_names(spec: StudySpec) -> None:
    """Refuse subjects that cannot be had, cuts of units that they have not, windows too long.

    Raises:
        ValueError: naming the field.
    """
    for index, subject in enumerate(spec.subjects):
        try:
            _check_subject(spec, subject)
        except ValueError as error:
            raise ValueError(f"subjects.{index}.{error}") from error
        untokenised = spec.data.train_tokenizer is None and not spec.data.is_prepared
        if subject.model in SIZES and untokenised:
            raise ValueError(
                f"data.train_tokenizer: missing, needed to grow the size {subject.model!r}"
            )
        plain = plain_configuration(subject.model, subject.revision)
        if plain is not None:
            check_not_quantised(plain.get("quantization_config"))
            _check_cuts(spec, subject, str(plain.get("model_type")))
        limit = None if subject.config else known_limit(subject.model, subject.revision)
        check_positions(spec, subject, limit)


def check_positions(spec: StudySpec, subject: SubjectSpec, limit: int | None) -> None:
    """Refuse windows and texts of more tokens than a subject has positions.

    Raises:
        ValueError: naming both.
    """
    if limit is None:
        return
    if spec.data.window > limit:
        raise ValueError(
            f"data.window: got {spec.data.window}, allowed are up to the {limit} positions "
            f"of {subject.name!r}"
        )
    text = spec.text if "text" in spec.measures else None
    if text is not None and text.new_tokens >= limit:
        raise ValueError(
            f"text.new_tokens: got {text.new_tokens}, allowed with a prompt of one token is up to "
            f"{limit - 1}: {subject.name!r} has {limit} positions"
        )


def _check_subject(spec: StudySpec, subject: SubjectSpec) -> None:
    sizes = ", ".join(sorted(SIZES))
    check_revision(subject.revision, subject.model, SIZES)
    if subject.model in SIZES:
        if subject.learning_rate is None:
            raise ValueError(f"learning_rate: missing, needed to grow the size {subject.model!r}")
        for field in BY_TOKENIZER:
            if field in subject.config:
                raise ValueError(f"config.{field}: not allowed, the study's tokenizer decides it")
        for field in _LAYERS:
            layers = subject.config.get(field)
            if isinstance(layers, int) and layers > MOST_LAYERS:
                raise ValueError(f"config.{field}: got {layers}, allowed are up to {MOST_LAYERS}")
        return
    if subject.config:
        raise ValueError(
            f"config: allowed only for the sizes {sizes}; {subject.model!r} is already trained"
        )
    try:
        check_subject(subject.model, subject.revision)
    except ValueError as error:
        raise ValueError(f"model: {str(error).removeprefix('subject: ')}") from error
    if Path(subject.model).is_dir() and not spec.data.is_prepared:
        try:  # transformers makes an empty one, of a folder that has none
            check_tokenizer_name(subject.model)
        except ValueError as error:
            raise ValueError(
                f"model: {subject.model!r} has no tokenizer, in whose tokens the text would be; "
                "allowed is a model folder that holds its own"
            ) from error
    if subject.learning_rate is not None:
        raise ValueError(
            f"learning_rate: got {subject.learning_rate}, allowed only for the sizes {sizes}; "
            f"{subject.model!r} is already trained"
        )


def _check_cuts(spec: StudySpec, subject: SubjectSpec, family: str) -> None:
    wanted = spec.cuts_of(subject)
    for index, cut in enumerate(spec.cuts):
        unit = method_named(cut.method).unit
        if cut not in wanted or unit == "weight":
            continue
        try:
            check_kind(unit, family)
        except ValueError as error:
            raise ValueError(f"cuts.{index}.{error} (subject {subject.name!r})") from error


def task_request(part: TaskSpec) -> TaskRequest:
    """What a study asks for of tasks; raises ValueError on numbers that make no sense."""
    names = part.names if isinstance(part.names, str) else tuple(part.names)
    folder = Path(part.data) if part.data is not None else None
    return TaskRequest(names, part.limit, folder, part.batch_size or 1, part.shots)


def as_field(error: ValueError) -> ValueError:
    """What is said of the command's `--tasks` and `--task-data`, of the fields of a study."""
    option, _, said = str(error).partition(": ")
    field = {"tasks": "names", "task_data": "data"}.get(option, option)
    return ValueError(f"tasks.{field}: {said}")
