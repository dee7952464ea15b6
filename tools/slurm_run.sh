#!/usr/bin/env bash
# Runs a tool on the machines of a Slurm job, with one launcher on each: slurm_run.sh PARTITION JOB TOOL [args of the tool]
# Environment, with defaults:
#   GPUS=8            processes in all
#   GPUS_PER_NODE=8   of them on a machine; GPUS if that is less
#   CPUS_PER_TASK=5   cores for each process
#   STOP_TIMEOUT=150  seconds before the time limit at which the run gets SIGTERM, and how long it may take to end
#   SRUN_ARGS=        more for srun, such as "--time=2-0 --account=vision"
# and what dsanet launch reads but NNODES, NODE_RANK and MASTER_ADDR, which Slurm knows. PORT follows from the job's id.
set -euo pipefail
if [[ ${1-} == --on-node ]]; then # as srun starts it, once on each machine
    shift
    nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
    export NNODES=$SLURM_NNODES NODE_RANK=$SLURM_NODEID MASTER_ADDR=${nodes%%$'\n'*}
    export PORT=${PORT:-$((20000 + SLURM_JOB_ID % 20000))}
    exec "${PYTHON:-python}" "$(dirname "${BASH_SOURCE[0]}")/launch.py" "$@"
fi
if [[ $# -lt 3 ]]; then
    echo "usage: bash tools/slurm_run.sh PARTITION JOB TOOL [args]" >&2
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
        echo "error: GPUS, GPUS_PER_NODE, CPUS_PER_TASK and STOP_TIMEOUT must be whole numbers of at least 1, got ${!name}" >&2
        exit 2
    fi
done
per_node=$((gpus < per_node ? gpus : per_node))
if ((gpus % per_node)); then
    echo "error: GPUS=$gpus must be a multiple of GPUS_PER_NODE=$per_node: all machines have the same number" >&2
    exit 2
fi
nodes=$((gpus / per_node))
read -r -a more <<<"${SRUN_ARGS:-}"
# Workers are restarted by the launcher; a launcher that ends with an error has given up, and the other machines with it.
exec srun --partition="$partition" --job-name="$job" --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 \
    --gres="gpu:$per_node" --cpus-per-task="$((cpus * per_node))" --kill-on-bad-exit=1 \
    --signal="TERM@$((STOP_TIMEOUT + 30))" ${more[@]+"${more[@]}"} \
    bash "${BASH_SOURCE[0]}" --on-node "$per_node" "$@"
