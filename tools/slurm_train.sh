#!/usr/bin/env bash
# Train a recognizer as a Slurm job: [GPUS=8] bash tools/slurm_train.sh PARTITION JOB CONFIG [options of dsanet train]
# For environment variables see tools/slurm_run.sh and dsanet launch --help.
set -euo pipefail
if [[ $# -lt 3 ]]; then
    echo "usage: [GPUS=8] bash tools/slurm_train.sh PARTITION JOB CONFIG [options]" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
shift 3
tools=$(dirname "${BASH_SOURCE[0]}")
exec bash "$tools/slurm_run.sh" "$partition" "$job" "$tools/train_recognizer.py" "$config" "$@"
