#!/usr/bin/env bash
# A stage over the nodes of a Slurm allocation; the words behind are the job's:
#   sbatch --nodes=4 jobs/slurm.sh jobs/pipeline.py --out /shared/runs
# p2d's environment is active where sbatch is called, and its folder is seen by all nodes.
#SBATCH --job-name=p2d
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail
test $# -gt 0 || { echo "which job? sbatch jobs/slurm.sh jobs/pipeline.py --out /shared/runs" >&2; exit 2; }

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000)) # another job's head may share the network
export RAY_ADDRESS="$head:$port" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")
export RAY_AUTH_TOKEN

gpus=${SLURM_GPUS_ON_NODE:-0}
on_each=(srun --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" --exact --overlap --kill-on-bad-exit=0)
folder="/tmp/ray-$SLURM_JOB_ID" # of Ray's sessions: a folder of each node's own
ray_on=(--disable-usage-stats --num-cpus="$SLURM_CPUS_ON_NODE" --num-gpus="$gpus" --block)

"${on_each[@]}" --nodes=1 --nodelist="$head" \
  ray start --head --port="$port" --dashboard-host=127.0.0.1 --temp-dir="$folder" "${ray_on[@]}" &
started=($!)
if test "$SLURM_NNODES" -gt 1; then
  "${on_each[@]}" --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$head" \
    bash -c 'until (: > "/dev/tcp/${RAY_ADDRESS/://}") 2>/dev/null; do sleep 2; done; exec ray start "$@"' \
    worker --address="$RAY_ADDRESS" "${ray_on[@]}" &
  started+=($!)
fi
trap 'kill "${started[@]}" 2>/dev/null; wait' EXIT

# Until all nodes have joined, or Slurm's time is over.
on_head=(srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap)
"${on_head[@]}" python - "$SLURM_NNODES" <<'PYTHON'
import sys, time, ray
while not ray.is_initialized():
    try:
        ray.init(logging_level="ERROR", log_to_driver=False)
    except ConnectionError:
        time.sleep(2)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    time.sleep(2)
PYTHON

# In the background, or this shell could not pass Slurm's signal on, at which training writes a last checkpoint.
"${on_head[@]}" python "$@" &
job=$!
trap 'kill -TERM "$job"' TERM
status=0
wait "$job" || status=$?
while kill -0 "$job" 2>/dev/null; do # it was the signal that ended the wait
  status=0
  wait "$job" || status=$?
done
exit "$status"
