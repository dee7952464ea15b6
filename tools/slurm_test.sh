#!/usr/bin/env bash
# Test a recognizer as a Slurm job: [GPUS=8] bash tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [options]
# For environment variables see tools/slurm_run.sh and dsanet launch --help.
set -euo pipefail
if [[ $# -lt 4 ]]; then
    echo "usage: [GPUS=8] bash tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [options]" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
checkpoint=$4
shift 4
tools=$(dirname "${BASH_SOURCE[0]}")
exec bash "$tools/slurm_run.sh" "$partition" "$job" "$tools/test_recognizer.py" "$config" "$checkpoint" "$@"
