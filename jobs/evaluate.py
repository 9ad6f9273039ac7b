"""The stage `p2d evaluate` as a job.

python jobs/evaluate.py waves --out /shared/runs
ray job submit --working-dir . -- python jobs/evaluate.py waves --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("evaluate")
