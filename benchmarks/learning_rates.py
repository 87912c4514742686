"""The small search by which a study file's learning rates were found.

    python benchmarks/learning_rates.py experiments/nano/biogpt.yaml --rates 2e-3 4e-3 8e-3 1.6e-2

Grows each subject of the study from the study's own recipe (first seed) at each rate and prints
the held-out loss; the lowest goes into the study file. Nothing is kept.
"""

import tempfile
from pathlib import Path

import arguments
from growing import grow
from resprout.models.device import resolve_device
from resprout.models.sizes import SIZES, build
from resprout.study.spec import read_spec
from resprout.study.subjects import Subjects


def main() -> None:
    parser = arguments.Parser(__doc__)
    parser.add_argument("study", type=arguments.there)
    parser.add_argument(
        "--rates", nargs="+", type=arguments.number(), default=[2e-3, 4e-3, 8e-3, 1.6e-2]
    )
    parser.add_argument("--device", type=arguments.device, default="auto")
    options = parser.parse_args()
    try:
        spec = read_spec(options.study)
    except ValueError as error:
        parser.error(str(error))
    device = resolve_device(options.device)
    seed = spec.seeds[0]
    with tempfile.TemporaryDirectory() as folder:
        subjects = Subjects(spec, Path(folder), device, notice=print)
        recipes = []
        for subject in spec.subjects:
            recipe = (subject.model, subject.config)
            if subject.model not in SIZES or recipe in recipes:  # grown once, used by several
                continue
            recipes.append(recipe)
            tokens = subjects.tokens(subject)
            unigram = tokens.unigram_nats_per_token
            print(f"{subject.name}: single-token frequencies give {unigram:.3f} nats per token")
            for rate in options.rates:
                tried = subject.model_copy(update={"learning_rate": rate})
                model = build(subjects.configuration(tried), seed)
                nats, result = grow(subjects, tried, model, seed, device)
                speed = result.tokens / result.seconds
                print(f"{subject.name} at {rate}: {nats:.3f} nats per token, "
                      f"{speed:,.0f} tokens/s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
