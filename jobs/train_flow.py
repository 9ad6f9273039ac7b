"""The stage `p2d train-flow` as a job.

python jobs/train_flow.py waves --out /shared/runs
ray job submit --working-dir . -- python jobs/train_flow.py waves --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("train-flow")
