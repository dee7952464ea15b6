#!/usr/bin/env bash
# Tests a recognizer: bash dist_test_recognizer.sh CONFIG CHECKPOINT GPUS [args of dsanet test]
# Without any GPU, GPUS is the number of processes on the CPU. Environment: see dsanet launch --help; PYTHON.
set -euo pipefail
if [[ $# -lt 3 ]]; then
    echo "usage: bash dist_test_recognizer.sh CONFIG CHECKPOINT GPUS [args]" >&2
    exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3
tools=$(dirname "${BASH_SOURCE[0]}")/tools
exec "${PYTHON:-python}" "$tools/launch.py" "$gpus" "$tools/test_recognizer.py" "$config" "$checkpoint" "$@"
