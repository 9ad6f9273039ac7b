"""The stage `p2d discover` as a job.

python jobs/discover.py waves --out /shared/runs
ray job submit --working-dir . -- python jobs/discover.py waves --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("discover")
