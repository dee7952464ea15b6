#!/usr/bin/env bash
# Test a recognizer: bash dist_test_recognizer.sh CONFIG CHECKPOINT GPUS [options of dsanet test]
# On a machine without GPUs, GPUS is the number of CPU processes. For environment variables see dsanet launch --help;
# PYTHON is the Python interpreter (default: python).
set -euo pipefail
if [[ $# -lt 3 ]]; then
    echo "usage: bash dist_test_recognizer.sh CONFIG CHECKPOINT GPUS [options]" >&2
    exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3
tools=$(dirname "${BASH_SOURCE[0]}")/tools
exec "${PYTHON:-python}" "$tools/launch.py" "$gpus" "$tools/test_recognizer.py" "$config" "$checkpoint" "$@"
