#!/usr/bin/env bash
# Trains a recognizer under Slurm: [GPUS=8] bash tools/slurm_train.sh PARTITION JOB CONFIG [args of dsanet train]
# Environment: see tools/slurm_run.sh and dsanet launch --help.
set -euo pipefail
if [[ $# -lt 3 ]]; then
    echo "usage: [GPUS=8] bash tools/slurm_train.sh PARTITION JOB CONFIG [args]" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
shift 3
tools=$(dirname "${BASH_SOURCE[0]}")
exec bash "$tools/slurm_run.sh" "$partition" "$job" "$tools/train_recognizer.py" "$config" "$@"
