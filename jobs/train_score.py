"""The stage `p2d train-score` as a job.

python jobs/train_score.py waves --out /shared/runs
ray job submit --working-dir . -- python jobs/train_score.py waves --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("train-score")
