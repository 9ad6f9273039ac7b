"""The stage `p2d run` as a job.

python jobs/pipeline.py --out /shared/runs
ray job submit --working-dir . -- python jobs/pipeline.py --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("run")
