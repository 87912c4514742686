"""What one cut is to be, as the user asked for it: all that can be refused without torch."""

from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from resprout.data.tokens import TokenSet
from resprout.data.windows import SAMPLES, WINDOW_TOKENS
from resprout.files import check_new, unwritable
from resprout.models.by_name import check_device, check_dtype, known_limit
from resprout.models.names import MANIFEST, SIZES, check_subject, plain_configuration
from resprout.pruning.amounts import counts_to_keep
from resprout.pruning.families import check_not_quantised
from resprout.pruning.options import CutOptions, read_options
from resprout.refusals import check_revision, check_whole
from resprout.train.options import check_distillation, training_options
from resprout.train.schedules import check_growing, check_growth


@dataclass(frozen=True)
class Asked:
    """What the user asked for.

    Attributes:
        model: as `resprout.load` takes it.
        out: the folder to make.
        method: of `resprout.prune`, as all down to `sequential`.
        calibration: a prepared folder or a source of text, of which `samples` windows of `length`
            tokens are drawn.
        tokens: a prepared folder to recover on, in `recover_steps` steps; further arguments of
            `resprout.recover` follow. None = its own default.
        cycles: of cutting and recovering.
        distill: learn from the uncut model too.
        sparse: of `resprout.save`, as `portable`.
        revision: of a Hub model.
        dtype: of the weights that are cut and saved; `auto` = the checkpoint's.
    """

    model: str
    out: Path
    method: str
    amount: float | None = None
    expansion_rate: float | None = None
    cut: str = "mask"
    scope: str | None = None
    round_to: int | None = None
    head_unit: str = "group"
    seed: int = 0
    protocol: str = "fair"
    dead_threshold: float | None = None
    dead_unit: str | None = None
    sequential: bool = False
    calibration: str | None = None
    samples: int = SAMPLES
    length: int = WINDOW_TOKENS
    recover_steps: int | None = None
    tokens: Path | None = None
    learning_rate: float | None = None
    batch_windows: int | None = None
    window: int | None = None
    schedule: str | None = None
    cycles: int | None = None
    distill: bool = False
    temperature: float | None = None
    distillation_weight: float | None = None
    sparse: bool = False
    portable: bool = False
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"

    def cut_options(self) -> dict[str, Any]:
        """Those of `read_options`, besides method and amount."""
        names = signature(read_options).parameters.keys() - {"method", "amount"}
        return {name: getattr(self, name) for name in names}

    def recovery_options(self) -> dict[str, Any]:
        """Those of `recover` that were given."""
        names = ("learning_rate", "batch_windows", "window", "temperature", "distillation_weight")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return given | {"seed": self.seed, "work_folder": self.work_folder}

    @property
    def grows(self) -> bool:
        """Whether the cut is made bit by bit while the model trains."""
        return (self.cycles or 1) > 1 or self.schedule not in (None, "one-shot")

    @property
    def work_folder(self) -> Path:
        """Where the checkpoints of a recovery are until the folder is there."""
        out = self.out.resolve()
        return out.with_name(f".{out.name}.work")


def check_asked(asked: Asked) -> CutOptions:
    """Refuse all that makes no sense, whatever the model holds; nothing is written.

    Raises:
        ValueError: naming the option, the value got and what is allowed.
    """
    _check_together(asked)
    options = read_options(asked.method, asked.amount, **asked.cut_options())
    _check_method(asked, options)
    _check_numbers(asked)
    check_dtype(asked.dtype)
    check_device(asked.device)
    check_new(asked.out, "out")
    if (nearest := unwritable(asked.out)) is not None:
        raise ValueError(f"out: {str(asked.out)!r} cannot be written, because of {str(nearest)!r}")
    check_revision(asked.revision, asked.model, SIZES)
    check_subject(asked.model, asked.revision)
    tokens = None
    if asked.tokens is not None:  # sizes alone: its digests are compared when it is read
        tokens = TokenSet.open(asked.tokens, checked=True)
    plain = plain_configuration(asked.model, asked.revision) or {}
    _check_configuration(asked, options, plain, tokens)
    if asked.device not in ("auto", "cpu"):
        from resprout.models.device import resolve_device  # torch alone knows what is there

        resolve_device(asked.device)
    return options


def _check_configuration(
    asked: Asked, options: CutOptions, plain: dict[str, Any], tokens: TokenSet | None
) -> None:
    """What a configuration file says by itself, as far as it says it; the model is asked later."""
    check_not_quantised(plain.get("quantization_config"))
    if isinstance(family := plain.get("model_type"), str):
        options.check_family(family)
    if (Path(asked.model) / MANIFEST).is_file():
        return  # its sizes are those from before an earlier cut
    width, neurons, layers, rows = (
        number if type(number := plain.get(name)) is int and number > 0 else None
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    )
    limit = known_limit(asked.model, asked.revision)
    if options.expansion_rate is not None and width and neurons and layers:
        counts_to_keep([neurons] * layers, options.expansion_rate, [width] * layers)
    if asked.window is not None and limit and asked.window > limit:
        raise ValueError(
            f"window: got {asked.window}, allowed is 1 to the model's {limit} positions"
        )
    if tokens is not None and rows and tokens.manifest["vocab_size"] > rows:
        raise ValueError(
            f"tokens: {str(tokens.path)!r} is in another vocabulary: of "
            f"{tokens.manifest['vocab_size']} entries, allowed are the model's {rows}"
        )


def _check_method(asked: Asked, options: CutOptions) -> None:
    """Refuse options that mean nothing to the method, and a method that has nothing to go by."""
    if asked.grows:
        check_growing(options.name, options.scope)
    if asked.sequential and options.method.name != "wanda":
        raise ValueError(
            f"sequential: allowed only for wanda, got it with {asked.method} (sparsegpt always is)"
        )
    if asked.head_unit == "query" and "head" not in (options.method.unit, options.dead_unit):
        raise ValueError(f"head_unit: got 'query', but {asked.method} cuts no heads")
    if options.method.calibrated and asked.calibration is None:
        raise ValueError(
            f"calibration: missing, {asked.method} needs text to score on: a prepared folder, or a "
            "source of text such as stdlib"
        )


def _check_numbers(asked: Asked) -> None:
    """Refuse counts and rates that no model could do with."""
    check_whole("samples", asked.samples, 1)
    check_whole("length", asked.length, 1)
    if asked.window is not None:
        check_whole("window", asked.window, 1)
    if asked.recover_steps is not None:
        names = ("batch_windows", "learning_rate")
        given = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
        training_options(**({"learning_rate": 1.0, "steps": asked.recover_steps} | given))
    if asked.distill:
        temperature, weight = asked.temperature, asked.distillation_weight
        check_distillation(
            1.0 if temperature is None else temperature, 1.0 if weight is None else weight
        )


def _check_together(asked: Asked) -> None:
    """Refuse options that make no sense together."""
    training = (
        "tokens", "learning_rate", "batch_windows", "window", "schedule", "cycles", "distill",
    )  # fmt: skip
    if asked.recover_steps is None:
        given = [name for name in training if getattr(asked, name) not in (None, False)]
        if given:
            raise ValueError(f"{given[0]}: allowed only with recover_steps, which was not given")
    else:
        check_whole("recover_steps", asked.recover_steps, 1)
        if asked.tokens is None:
            raise ValueError("tokens: missing, recover_steps needs a prepared folder to train on")
        check_growth(asked.schedule or "one-shot", asked.cycles or 1, asked.recover_steps)
    for name in ("temperature", "distillation_weight"):
        if getattr(asked, name) is not None and not asked.distill:
            raise ValueError(f"{name}: allowed only with distill, which was not given")
    if asked.expansion_rate is not None and asked.grows:
        which = "schedule" if (asked.cycles or 1) == 1 else "cycles"
        raise ValueError(f"expansion_rate: not allowed with {which}; give an amount, which grows")
    if asked.sparse and (asked.cut == "remove" or asked.portable):
        other = "portable" if asked.portable else "cut remove"
        raise ValueError(f"sparse: not allowed with {other}; it stores the zeros of a mask")
    if asked.portable and asked.cut != "remove":
        raise ValueError(f"portable: got with cut {asked.cut!r}, allowed only with cut remove")
