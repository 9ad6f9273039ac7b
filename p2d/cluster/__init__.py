"""Ray: actors that simulate, data-parallel training, sweeps and passes over snapshots. The only
importer of Ray.

On one machine Ray is started for the command and ends with it. In a job, or with RAY_ADDRESS, the
cluster that is there is joined; jobs/README.md tells how to start one.

    --workers 4          processes; 0: as many as the machines are best used with
    --workers 1:4        trains with at least one and at most four, as there are machines
    --cpus-per-worker 8  threads of each
    --at-a-time 8        takes a large batch in parts: the same loss in less memory

Simulation, passes, sampling, denoising and rollouts go over processes on all nodes; training has
one worker a GPU, or one for every eight CPUs of a node. Bytes, losses and equations do not depend
on any of this. An actor, worker or node that dies costs the shards in flight, or its epoch.

Sweeps (`p2d sweep`) train a flow at each point, as `p2d train-flow` does:

    p2d sweep waves --alpha 0.5 0.8 0.95 0.99 --sym 0 0.03 0.1 0.3
    p2d sweep waves --objective stationarity --param flow.hidden=16,64 --param data.snapshots=64,128
    p2d sweep waves --search optuna --samples 20 --param flow.learning_rate=1e-4..1e-2:log

Any setting of the flow, the score model or the number of snapshots may be a --param: values, or
with --search random and optuna ranges. As many trials run at a time as there are CPUs or GPUs.
ASHA ends trials that fall behind (--scheduler median or none). The best is kept in
OUT/sweep/NAME/best: by cosine where the truth is known, by z-scores where it is not. The same
command goes on with an interrupted sweep; a point that fails is recorded and ends nothing.
"""
