#!/usr/bin/env bash
# Run a script as a Slurm job, with one launcher per node: slurm_run.sh PARTITION JOB SCRIPT [arguments]
# Environment variables and their defaults:
#   GPUS=8            total number of processes
#   GPUS_PER_NODE=8   processes per node; at most GPUS
#   CPUS_PER_TASK=5   cores per process
#   STOP_TIMEOUT=150  seconds to wait for the processes to exit; SIGTERM is sent STOP_TIMEOUT + 30 s before the limit
#   SRUN_ARGS=        additional srun arguments, such as "--time=2-0 --account=vision"
# Those of dsanet launch apply, too, except NNODES, NODE_RANK and MASTER_ADDR. By default, PORT depends on the job ID.
set -euo pipefail
if [[ ${1-} == --on-node ]]; then # srun starts this once per node
    shift
    nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
    export NNODES=$SLURM_NNODES NODE_RANK=$SLURM_NODEID MASTER_ADDR=${nodes%%$'\n'*}
    export PORT=${PORT:-$((20000 + SLURM_JOB_ID % 20000))}
    exec "${PYTHON:-python}" "$(dirname "${BASH_SOURCE[0]}")/launch.py" "$@"
fi
if [[ $# -lt 3 ]]; then
    echo "usage: bash tools/slurm_run.sh PARTITION JOB SCRIPT [arguments]" >&2
    exit 2
fi
partition=$1
job=$2
shift 2
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
cpus=${CPUS_PER_TASK:-5}
export STOP_TIMEOUT=${STOP_TIMEOUT:-150}
for name in gpus per_node cpus STOP_TIMEOUT; do
    if [[ ! ${!name} =~ ^[1-9][0-9]*$ ]]; then
        echo "error: GPUS, GPUS_PER_NODE, CPUS_PER_TASK and STOP_TIMEOUT must be integers of at least 1, got ${!name}" >&2
        exit 2
    fi
done
per_node=$((gpus < per_node ? gpus : per_node))
if ((gpus % per_node)); then
    echo "error: GPUS=$gpus must be a multiple of GPUS_PER_NODE=$per_node" >&2
    exit 2
fi
nodes=$((gpus / per_node))
read -r -a more <<<"${SRUN_ARGS:-}"
# The launcher restarts failed processes. If a launcher exits with an error, stop the whole job.
exec srun --partition="$partition" --job-name="$job" --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 \
    --gres="gpu:$per_node" --cpus-per-task="$((cpus * per_node))" --kill-on-bad-exit=1 \
    --signal="TERM@$((STOP_TIMEOUT + 30))" ${more[@]+"${more[@]}"} \
    bash "${BASH_SOURCE[0]}" --on-node "$per_node" "$@"
