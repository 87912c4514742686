"""`python -m biogpt.train`: pre-training under the published guide's flags."""

import sys

from resprout.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
