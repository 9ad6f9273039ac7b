"""The stage `p2d sweep` as a job.

python jobs/sweep.py waves --out /shared/runs
ray job submit --working-dir . -- python jobs/sweep.py waves --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("sweep")
