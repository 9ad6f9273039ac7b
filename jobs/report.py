"""The stage `p2d report` as a job.

python jobs/report.py waves --out /shared/runs
ray job submit --working-dir . -- python jobs/report.py waves --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("report")
