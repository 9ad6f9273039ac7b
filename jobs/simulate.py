"""The stage `p2d simulate` as a job.

python jobs/simulate.py --out /shared/runs
ray job submit --working-dir . -- python jobs/simulate.py --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("simulate")
