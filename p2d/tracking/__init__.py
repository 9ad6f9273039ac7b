"""Tracking: every run in MLflow, and its page on this machine.

Runs are written to OUT/mlflow.db and OUT/mlartifacts, or to the server that MLFLOW_TRACKING_URI
names; --no-tracking leaves them out. A `p2d run` is one run with a child for each stage, a sweep is
one run with a child for each trial, named as alpha=0.95 sym=0.1: FINISHED, KILLED (stopped early,
or by Ctrl-C) or FAILED. None is left RUNNING, even by kill -9: the next command closes it.

    p2d ui                    # http://127.0.0.1:5000, until Ctrl-C; --port takes another

`p2d ui` serves MLflow's page, with a saved view of each sweep, and the report pages at the next
port, on loopback only. While a server does not answer, work goes on, and what is tracked is kept in
a file until it does.

Datasets are MLflow datasets, by name and digest. Scores, flows and equations are MLflow models with
signature and example; predict takes snapshots [N, C, H, W] float32 in the species' units:

    score      the clean snapshots, or their score (params alpha, output)
    flow       the velocity, in the flow's own unit of time
    equation   the rates of change; under conditions given as params, where it holds across some

The best flow of a sweep is registered: models:/p2d-flow-NAME@best. Loading a model reads p2d's own
files, never pickled code.
"""
