"""Tracking: every run in MLflow, and its page on this machine.

Runs are written to OUT/mlflow.db and OUT/mlartifacts, or to the server that MLFLOW_TRACKING_URI
names; --no-tracking leaves them out. A `p2d run` is one run with a child for each stage, a sweep is
one run with a child for each trial, named as alpha=0.95 sym=0.1: FINISHED, KILLED (stopped early,
or by Ctrl-C) or FAILED. None is left RUNNING, even by kill -9: the next command closes it.

    p2d ui                    # http://127.0.0.1:5000, until Ctrl-C; --port takes another

The page listens on loopback only. While a server does not answer, work goes on, and what is tracked
is kept in a file until it does.
"""
