#!/usr/bin/env bash
# Starts a tool on several processes through torchrun: dist_run.sh GPUS TOOL [args]
# Environment: PORT (default: a free one; needed for several machines), NNODES, NODE_RANK, MASTER_ADDR, PYTHON.
set -euo pipefail

gpus=$1
tool=$2
shift 2
if ! [[ $gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "GPUS must be a number of at least 1, got '$gpus'" >&2
    exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python}
nnodes=${NNODES:-1}
master_addr=${MASTER_ADDR:-127.0.0.1}

# Processes of one machine share its cores; without this each would start a thread for every core.
if [[ -z ${OMP_NUM_THREADS:-} ]]; then
    threads=$(($(nproc) / gpus))
    export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
fi

if [[ $nnodes -eq 1 && -z ${PORT:-} ]]; then
    # Port 0 lets the launcher take a free one, so two runs on a machine do not meet.
    rendezvous=(--rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:0 --local-addr=127.0.0.1)
else
    rendezvous=(--node-rank="${NODE_RANK:-0}" --master-addr="$master_addr" --master-port="${PORT:-29500}")
fi
exec "$python" -m torch.distributed.run --nnodes="$nnodes" --nproc-per-node="$gpus" "${rendezvous[@]}" \
    "$root/$tool" "$@"
