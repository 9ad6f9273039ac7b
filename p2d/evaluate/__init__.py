"""Evaluation: what score, flow and equation are worth, on snapshots that none of them has seen.

Where the true system is known, the cosine of a velocity with the true one: 1 is the true dynamics
up to the unit of time, 0 is chance. What needs no truth:

z-scores         of mean rates of held-out observables under the velocity. An rms of about 1 is
                 chance; larger, and averages of the ensemble would change.
distance         energy distance between two ensembles, by averages such as means of squares,
                 products and gradients, over its floor: the distance of as many snapshots of the
                 data. About 1 is as good as more data.
from new starts  the found equation is simulated from fresh starts, and its patterns are held
                 against the data.
some time on     held-out snapshots are carried on, and the ensemble should stay what it is.
beside them      a random flow, the score alone, no flow at all, the reversed flow, the true system.

    p2d evaluate waves
    p2d rollout --flow waves --sample 3 --steps 1000          # animation, panels, frames, distances
    p2d rollout --equation waves --from waves --time 200

A rollout starts from a snapshot of any size (--from another dataset), by Heun's method with the
largest stable step. --eta adds the score's corrector. The frames are in parquet, readable with
pyarrow alone. Beyond open edges and outside masks nothing is known: all fields, the true one too,
have a wall without flux there. The reversed flow cannot be carried far: diffusion does not run
backwards.

Measured over 1,000 steps (2026-11-24): the distance of a flow's ensemble is 0.7 floors on average
for waves (at most 1.4; the true system 0.7 and 1.3), 1.1 for life (3.4 at the end; the true system
0.9 and 1.9), 0.4 for spirals, and past 1,000 before step 300 for a random flow.
"""
