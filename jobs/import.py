"""The stage `p2d import` as a job.

python jobs/import.py /shared/plates --out /shared/runs
ray job submit --working-dir . -- python jobs/import.py /shared/plates --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("import")
