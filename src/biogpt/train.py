"""`python -m biogpt.train`: pre-training under the published guide's flags.

As published, a BioGPT's `biogpt_final.pt` is written too.
"""

import sys

from resprout.cli import main

if __name__ == "__main__":
    given = sys.argv[1:]
    other = any(argument.startswith("--model") for argument in given)
    main(["train", *([] if other else ["--export_pt"]), *given])
