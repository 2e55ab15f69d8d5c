#!/bin/bash
# Starts this host's part of a training run over several hosts. Slurm and Kubernetes call it; on
# other clusters, call it on every host with the same arguments, for example by ssh:
#
#   KERAS_BACKEND=jax HOSTS="node1 node2" NODE=0 bash start.sh imagenet1k/convnext_tiny
#
# The arguments are those of `keras-convnext train`. PyTorch gets one process for each GPU, started
# by torchrun. JAX and TensorFlow get one process, which uses all GPUs of the host.
#
#   KERAS_BACKEND  torch, jax or tensorflow
#   HOSTS          names of all hosts, separated by spaces; process 0 runs on the first one. Or
#                  NODES, their number, and HOST_NAMES, such as convnext-%d.convnext
#   NODE           this host's place among them, from 0; Slurm and Kubernetes set their own
#   GPUS           GPUs of each host; 8 by default
#   PORT           a free port, the same on all hosts; 29500 by default
#   KERAS_CONVNEXT_START_TIMEOUT  seconds that a host waits for the others; 300 by default
#   RESTARTS       how often torchrun starts processes again after one has died; 3 by default
set -euo pipefail

: "${KERAS_BACKEND:?must be torch, jax or tensorflow}"
if [[ -z ${HOSTS:-} ]]; then
    : "${NODES:?and HOST_NAMES must be set, or HOSTS}" "${HOST_NAMES:?must be set}"
    # shellcheck disable=SC2059 # the pattern is the format
    HOSTS=$(for ((i = 0; i < NODES; i++)); do printf "$HOST_NAMES " "$i"; done)
fi
read -ra hosts <<<"$HOSTS"
node=${NODE:-${SLURM_NODEID:-${JOB_COMPLETION_INDEX:?or NODE must be set: the place of this host}}}
gpus=${GPUS:-8}
port=${PORT:-29500}
timeout=${KERAS_CONVNEXT_START_TIMEOUT:-300}

# A name may be known only some time after its host has started.
for host in "${hosts[@]}"; do
    for ((second = 0; ; second++)); do
        getent hosts "$host" >/dev/null && break
        ((second < timeout)) || { echo "$host has no address after $timeout s." >&2; exit 1; }
        sleep 1
    done
done

# With the number of devices, a host that lacks a GPU is refused instead of used.
devices=$((gpus * ${#hosts[@]}))
train=(keras_convnext train "$@" distribution.name=data_parallel "distribution.devices=$devices")

case $KERAS_BACKEND in
torch)
    rendezvous="join_timeout=$timeout,is_host=false"
    [[ $node == 0 ]] && rendezvous=${rendezvous/false/true}
    exec torchrun --nnodes="${#hosts[@]}" --nproc-per-node="$gpus" \
        --max-restarts="${RESTARTS:-3}" --rdzv-backend=c10d --rdzv-id=convnext \
        --rdzv-endpoint="${hosts[0]}:$port" --rdzv-conf="$rendezvous" \
        --local-addr="${hosts[node]}" \
        -m "${train[@]}"
    ;;
jax)
    export KERAS_DISTRIBUTION_JOB_ADDRESSES="${hosts[0]}:$port"
    export KERAS_DISTRIBUTION_NUM_PROCESSES=${#hosts[@]}
    export KERAS_DISTRIBUTION_PROCESS_ID=$node
    # Without it, JAX would use a single GPU of a host where it finds Slurm.
    JAX_LOCAL_DEVICE_IDS=$(seq -s , 0 $((gpus - 1)))
    export JAX_LOCAL_DEVICE_IDS
    exec python -m "${train[@]}"
    ;;
tensorflow)
    workers=$(printf ", \"%s:$port\"" "${hosts[@]}")
    TF_CONFIG=$(printf '{"cluster": {"worker": [%s]}, "task": {"type": "worker", "index": %s}}' \
        "${workers:2}" "$node")
    export TF_CONFIG
    exec python -m "${train[@]}"
    ;;
*)
    echo "KERAS_BACKEND must be torch, jax or tensorflow. Received: $KERAS_BACKEND." >&2
    exit 1
    ;;
esac
