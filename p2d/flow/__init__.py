"""Flows: a velocity field v(x) under which the ensemble of snapshots stays as it is.

The field is local and isotropic: a convolution with weights tied by distance, then layers in each
cell. It works on a grid of any size. --objective chooses what the field is asked for:

stationarity   (default) no average changes: E[v . grad g] = 0 for every observable g. It needs no
               score. The hidden layers are trained on observables drawn anew at each step; the last
               layer is solved for exactly, over all workers.
continuity     the original's: div v + v . grad log p = 0 in every snapshot (Zhang & Levin 2025),
               with a score model. Its exact optimum is far from the true dynamics (cosine 0.1 to
               0.35), whatever the training.
training-free  the original's: v = K * score with a skew kernel K. It keeps the density for any K,
               and so does not single out the dynamics.

    p2d train-flow waves
    p2d rollout --flow waves --sample 3 --steps 1000

The unit of time is a convention: the mean square of v over the data is 1. The sign is the one under
which diffusion damps. What the verdict says:

stationary           the dynamics up to the unit of time
static               nothing moves; by how little v can differ from zero is said
a symmetry           v only turns a phase of the ensemble (lambda-omega systems), which keeps it as
                     well as the dynamics do
doubtful             held-out averages change: the field does not hold the dynamics

Measured (`p2d bench flow`, p2d/bench/flow.py): cosines with the true velocity of 0.9998 for waves
from 461 snapshots of 128 x 128, 0.9994 from 128; from 112 snapshots of 64 x 64 of other systems
0.985 to 0.9999. With fewer than 64 snapshots of 128 x 128 the screen says how many would do.

Limits: rates with products of gradients (Kuramoto-Sivashinsky) are not held by the field. There,
and for error bars, take `p2d discover`.
"""
