#!/usr/bin/env bash
# Trains a recognizer: bash dist_train_recognizer.sh CONFIG GPUS [args of dsanet train]
# Without any GPU, GPUS is the number of processes on the CPU. Environment: see dsanet launch --help; PYTHON.
set -euo pipefail
if [[ $# -lt 2 ]]; then
    echo "usage: bash dist_train_recognizer.sh CONFIG GPUS [args]" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2
tools=$(dirname "${BASH_SOURCE[0]}")/tools
exec "${PYTHON:-python}" "$tools/launch.py" "$gpus" "$tools/train_recognizer.py" "$config" "$@"
