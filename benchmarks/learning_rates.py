"""The small search by which a study file's learning rates were found.

    python benchmarks/learning_rates.py experiments/nano/biogpt.yaml --rates 2e-3 4e-3 8e-3 1.6e-2

Grows each subject of the study from the study's own recipe (first seed) at each rate and prints
the held-out loss; the lowest goes into the study file. Nothing is kept.
"""

import argparse
import tempfile
from pathlib import Path

from growing import grow
from resprout.models.device import resolve_device
from resprout.models.sizes import SIZES, build
from resprout.study.spec import read_spec
from resprout.study.subjects import Subjects


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("--rates", nargs="+", default=["2e-3", "4e-3", "8e-3", "1.6e-2"])
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    spec = read_spec(options.study)
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
                tried = subject.model_copy(update={"learning_rate": float(rate)})
                model = build(subjects.configuration(tried), seed)
                nats, result = grow(subjects, tried, model, seed, device)
                speed = result.tokens / result.seconds
                print(f"{subject.name} at {rate}: {nats:.3f} nats per token, "
                      f"{speed:,.0f} tokens/s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
