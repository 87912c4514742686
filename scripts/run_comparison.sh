#!/usr/bin/env bash
# The published BioGPT comparison in one command: prepare text, train, compare. Each step is left
# out where it is done, goes on where it was stopped, and an error ends the script.
#
#   bash scripts/run_comparison.sh                 as published: The Pile, 294M, Pythia-160M
#   CONTROL=gpt-neox-294m bash scripts/run_comparison.sh   against a control that is trained alike
#
# Settings, by environment variables:
#   DATA_DIR        prepared text (data)
#   CHECKPOINTS     the BioGPT's run (checkpoints)
#   RESULTS         full_comparison.json, records and report (results)
#   TARGET_TOKENS   of text, and of training (2000000000)
#   SOURCE          of text (pile)
#   MODEL           the size to train (biogpt-294m)
#   CONTROL         a size to train on the same text in place of Pythia from the Hub (none)
#   CONTROL_DIR     its run (CHECKPOINTS-control)
#   PREPARE_OPTIONS, TRAIN_OPTIONS, CONTROL_OPTIONS, COMPARE_OPTIONS
#                   further flags of each command, parted by blanks (CONTROL_OPTIONS: TRAIN_OPTIONS)
#   PYTHON          the interpreter (python; outside of an environment the repository's .venv)
# A step is done where its result lies, whoever made it: the text in DATA_DIR, biogpt_final.pt in
# CHECKPOINTS, final/ in CONTROL_DIR. SOURCE, TARGET_TOKENS, MODEL and CONTROL, where they are
# given, have to be what it was made from; further flags are not compared.
set -euo pipefail

fail() {
    echo "run_comparison.sh: error: $1" >&2
    exit 2
}

if [ $# -gt 0 ]; then
    if [ "$1" = --help ] || [ "$1" = -h ]; then
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
        exit 0
    fi
    fail "got $1, allowed are environment variables (see --help)"
fi

given_source=${SOURCE:-}
given_tokens=${TARGET_TOKENS:-}
given_model=${MODEL:-}
DATA_DIR=${DATA_DIR:-data}
CHECKPOINTS=${CHECKPOINTS:-checkpoints}
RESULTS=${RESULTS:-results}
TARGET_TOKENS=${TARGET_TOKENS:-2000000000}
SOURCE=${SOURCE:-pile}
MODEL=${MODEL:-biogpt-294m}
CONTROL=${CONTROL:-}
CONTROL_DIR=${CONTROL_DIR:-$CHECKPOINTS-control}
PREPARE_OPTIONS=${PREPARE_OPTIONS:-}
TRAIN_OPTIONS=${TRAIN_OPTIONS:-}
CONTROL_OPTIONS=${CONTROL_OPTIONS:-$TRAIN_OPTIONS}
COMPARE_OPTIONS=${COMPARE_OPTIONS:-}
export PYTHONUNBUFFERED=1

if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    own="$(cd "$(dirname "$0")/.." && pwd)/.venv/bin/python"
    if [ -z "${VIRTUAL_ENV:-}" ] && [ -x "$own" ]; then PYTHON=$own; fi
fi
"$PYTHON" -c 'import biogpt' 2>/dev/null ||
    fail "PYTHON: '$PYTHON' cannot import biogpt; allowed is a Python with Resprout (pip install -e .)"

as_asked() { # setting, its value as given, file of JSON, the line that it makes there
    if [ -n "$2" ] && [ -f "$3" ] && ! grep -qF "$4" "$3"; then
        fail "$1: got $2, but $(dirname "$3") was made with another; allowed is the same or another folder"
    fi
}

train() { # model, its run, further flags
    local model=$1 run=$2
    shift 2
    "$PYTHON" -m biogpt.train --model "$model" --data_dir "$DATA_DIR" --out_dir "$run" \
        --target_tokens "$TARGET_TOKENS" "$@"
}

trained() { # run, whose setting the model is, the model if given
    as_asked "$2" "$3" "$1/run.json" "\"model\": \"$3\","
    as_asked TARGET_TOKENS "$given_tokens" "$1/run.json" "\"target_tokens\": $given_tokens,"
}

# The manifest and the finished model appear last, so they say that a step is whole.
prepared=; published=; controlled=
if [ -f "$DATA_DIR/manifest.json" ]; then
    prepared=yes
    as_asked SOURCE "$given_source" "$DATA_DIR/manifest.json" "\"source\": \"$given_source\","
    as_asked TARGET_TOKENS "$given_tokens" "$DATA_DIR/manifest.json" \
        "\"target_tokens\": $given_tokens,"
fi
if [ -f "$CHECKPOINTS/biogpt_final.pt" ]; then
    published=yes
    trained "$CHECKPOINTS" MODEL "$given_model"
fi
if [ -n "$CONTROL" ] && [ -d "$CONTROL_DIR/final" ]; then
    controlled=yes
    trained "$CONTROL_DIR" CONTROL "$CONTROL"
fi

# What a later step would refuse is told before the first one, which may take days.
env DATA_DIR="$DATA_DIR" CHECKPOINTS="$CHECKPOINTS" RESULTS="$RESULTS" MODEL="$MODEL" \
    TARGET_TOKENS="$TARGET_TOKENS" CONTROL="$CONTROL" CONTROL_DIR="$CONTROL_DIR" \
    TRAIN_OPTIONS="$TRAIN_OPTIONS" CONTROL_OPTIONS="$CONTROL_OPTIONS" \
    COMPARE_OPTIONS="$COMPARE_OPTIONS" "$PYTHON" -m resprout.cli.comparison_steps

# Options are meant to be split at blanks.
# shellcheck disable=SC2086
{
    if [ -n "$prepared" ]; then
        echo "Step 1: $DATA_DIR is prepared"
    else
        echo "Step 1: preparing $SOURCE into $DATA_DIR"
        "$PYTHON" -m biogpt.prepare_data --source "$SOURCE" --target_tokens "$TARGET_TOKENS" \
            --out_dir "$DATA_DIR" $PREPARE_OPTIONS
    fi

    if [ -n "$published" ]; then
        echo "Step 2: $CHECKPOINTS/biogpt_final.pt is trained"
    else
        echo "Step 2: training $MODEL into $CHECKPOINTS"
        train "$MODEL" "$CHECKPOINTS" --export_pt $TRAIN_OPTIONS
    fi
    against=()
    if [ -n "$CONTROL" ]; then
        if [ -n "$controlled" ]; then
            echo "Step 2: $CONTROL_DIR/final is trained"
        else
            echo "Step 2: training the control $CONTROL into $CONTROL_DIR"
            train "$CONTROL" "$CONTROL_DIR" $CONTROL_OPTIONS
        fi
        against=(--pythia "$CONTROL_DIR/final")
    fi

    echo "Step 3: comparing; points that are done are kept"
    "$PYTHON" -m biogpt.compare --data_dir "$DATA_DIR" --output_dir "$RESULTS" \
        --biogpt_ckpt "$CHECKPOINTS/biogpt_final.pt" ${against[@]+"${against[@]}"} $COMPARE_OPTIONS
}
