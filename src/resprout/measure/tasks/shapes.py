"""What a row of each task's data has to hold, as lm-eval's own task code reads it."""

import ast
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

Text = Annotated[StrictStr, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=2)]
Binary = Literal[0, 1]


class FaultError(ValueError):
    """What is wrong with a row: the column, and in words what is."""

    def __init__(self, column: str, words: str) -> None:
        super().__init__(f"column {column!r}: {words}")
        self.column = column


class Row(BaseModel):
    """Columns that the task does not read may be anything."""

    model_config = ConfigDict(extra="ignore", strict=True)


def _column(name: str, got: Any, allowed: str) -> ValueError:
    return ValueError(f"@{name}@got {got!r}, allowed is {allowed}")


class WikiText(Row):
    """A page."""

    page: Text


def _two_words(text: str) -> str:
    if not text.split(" ")[-1] or " " not in text:
        raise ValueError(
            f"got {text[:60]!r}, allowed is a passage and, after a space, its last word"
        )
    return text


class Lambada(Row):
    """A passage; its last word is what is to be predicted."""

    text: Annotated[StrictStr, AfterValidator(_two_words)]


class Mmlu(Row):
    """A question with four choices; `answer` is the index of the right one."""

    question: Text
    choices: Annotated[list[StrictStr], Field(min_length=4, max_length=4)]
    answer: Annotated[StrictInt, Field(ge=0, le=3)]


class ArcChoices(Row):
    """Texts and labels of the choices, in the same order."""

    text: Texts
    label: Texts


class Arc(Row):
    """A question whose choices have labels; `answerKey` is the right one's."""

    question: Text
    choices: ArcChoices
    answerKey: Text  # noqa: N815

    @model_validator(mode="after")
    def _fits(self) -> Self:
        labels = self.choices.label
        if len(labels) != len(self.choices.text):
            raise _column("choices.label", labels, f"{len(self.choices.text)} of them, one a text")
        if self.answerKey not in labels:
            raise _column("answerKey", self.answerKey, "one of " + ", ".join(labels))
        return self


class HellaSwag(Row):
    """A beginning and its endings; `label` is the index of the right one, as text or number."""

    activity_label: StrictStr
    ctx_a: StrictStr
    ctx_b: StrictStr
    endings: Texts
    label: StrictStr | StrictInt

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if str(self.label) not in map(str, range(len(self.endings))):
            raise _column("label", self.label, f"an index of the {len(self.endings)} endings")
        return self


def _with_blank(text: str) -> str:
    if "_" not in text:
        raise ValueError(f"got {text[:60]!r}, allowed is a sentence with a blank, '_'")
    return text


class WinoGrande(Row):
    """A sentence with a blank and two things to fill it with."""

    sentence: Annotated[StrictStr, AfterValidator(_with_blank)]
    option1: Text
    option2: Text
    answer: Literal["1", "2"]


class Piqa(Row):
    """A goal and two solutions; `label` is the index of the right one."""

    goal: Text
    sol1: Text
    sol2: Text
    label: Binary


class BoolQ(Row):
    """A passage and a question; `label` is 1 for yes."""

    passage: Text
    question: Text
    label: Binary


class Targets(Row):
    """Answers, and 1 for each that is true."""

    choices: Annotated[list[Text], Field(min_length=1)]
    labels: list[Binary]


def _targets(name: str, targets: Targets) -> None:
    if len(targets.labels) != len(targets.choices):
        counted = f"{len(targets.choices)} of them, one a choice"
        raise _column(f"{name}.labels", targets.labels, counted)
    if 1 not in targets.labels:
        raise _column(f"{name}.labels", targets.labels, "at least one 1 (true)")


class TruthfulQA1(Row):
    """A question with one true answer, which stands first."""

    question: Text
    mc1_targets: Targets

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _targets("mc1_targets", self.mc1_targets)
        labels = self.mc1_targets.labels
        if labels != [1] + [0] * (len(labels) - 1):
            raise _column("mc1_targets.labels", labels, "1 for the first and 0 for all others")
        return self


class TruthfulQA2(Row):
    """A question with several answers, true and false."""

    question: Text
    mc2_targets: Targets

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _targets("mc2_targets", self.mc2_targets)
        return self


def _solved(text: str) -> str:
    if "#### " not in text:
        raise ValueError(f"got {text[-60:]!r}, allowed is a solution that ends with '#### NUMBER'")
    return text


class Gsm8k(Row):
    """A problem and its solution."""

    question: Text
    answer: Annotated[StrictStr, AfterValidator(_solved)]


class IfEval(Row):
    """A prompt with instructions whose following can be checked, and their arguments."""

    key: StrictInt
    prompt: Text
    instruction_id_list: Annotated[list[Text], Field(min_length=1)]
    kwargs: list[dict[str, Any]]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.kwargs) != len(self.instruction_id_list):
            counted = f"{len(self.instruction_id_list)} objects, one an instruction"
            raise _column("kwargs", f"{len(self.kwargs)} objects", counted)
        from lm_eval.tasks.ifeval.instructions_registry import INSTRUCTION_DICT

        for name in self.instruction_id_list:
            if name not in INSTRUCTION_DICT:
                raise _column("instruction_id_list", name, "an instruction that IFEval knows")
        return self


class Musr(Row):
    """A story and a question; `choices` is a list of texts written as Python writes it."""

    narrative: Text
    question: Text
    choices: Text
    answer_choice: Text

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            choices = ast.literal_eval(self.choices)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            choices = None
        if (
            not isinstance(choices, list)
            or len(choices) < 2
            or not all(isinstance(choice, str) and choice for choice in choices)
        ):
            raise _column(
                "choices", self.choices[:60], "a list of two or more texts, \"['a', 'b']\""
            )
        if self.answer_choice not in choices:
            raise _column("answer_choice", self.answer_choice, "one of the choices")
        return self


_SHAPES: dict[str, type[Row]] = {
    "wikitext": WikiText,
    "lambada_openai": Lambada,
    "arc_challenge": Arc,
    "arc_easy": Arc,
    "hellaswag": HellaSwag,
    "winogrande": WinoGrande,
    "piqa": Piqa,
    "boolq": BoolQ,
    "truthfulqa_mc1": TruthfulQA1,
    "truthfulqa_mc2": TruthfulQA2,
    "gsm8k": Gsm8k,
    "ifeval": IfEval,
}


def shape_of(task: str, config: dict[str, Any]) -> type[Row] | None:
    """The shape of a task's rows; None where only lm-eval's own code knows what it needs.

    Args:
        task: lm-eval's name.
        config: its configuration; the subjects of mmlu and MuSR are known by their data set.
    """
    if config.get("dataset_path") == "cais/mmlu":
        return Mmlu
    if config.get("dataset_path") == "TAUR-Lab/MuSR":
        return Musr
    return _SHAPES.get(task)


def check_row(shape: type[Row], row: dict[str, Any]) -> None:
    """Check one row.

    Raises:
        FaultError: the first fault in it.
    """
    try:
        shape.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(str(part) for part in first["loc"]) or "the row"
        if first["type"] == "missing":
            raise FaultError(column, "it is missing") from error
        words = first["msg"].removeprefix("Value error, ")
        if words.startswith("@"):  # a fault between columns says which one it blames
            _, column, words = words.split("@", 2)
        elif not words.startswith("got "):
            words = f"got {_short(first['input'])}, {words[0].lower()}{words[1:]}"
        raise FaultError(column, words) from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
