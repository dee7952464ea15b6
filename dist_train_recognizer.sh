#!/usr/bin/env bash
# Train a recognizer: bash dist_train_recognizer.sh CONFIG GPUS [options of dsanet train]
# On a machine without GPUs, GPUS is the number of CPU processes. For environment variables see dsanet launch --help;
# PYTHON is the Python interpreter (default: python).
set -euo pipefail
if [[ $# -lt 2 ]]; then
    echo "usage: bash dist_train_recognizer.sh CONFIG GPUS [options]" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2
tools=$(dirname "${BASH_SOURCE[0]}")/tools
exec "${PYTHON:-python}" "$tools/launch.py" "$gpus" "$tools/train_recognizer.py" "$config" "$@"
