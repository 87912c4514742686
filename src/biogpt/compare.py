"""`python -m biogpt.compare`: BioGPT against Pythia-160M, as in the published guide."""

import sys

from resprout.cli.biogpt_comparison import main

if __name__ == "__main__":
    sys.exit(main())
