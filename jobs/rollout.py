"""The stage `p2d rollout` as a job.

python jobs/rollout.py --flow waves --out /shared/runs
ray job submit --working-dir . -- python jobs/rollout.py --flow waves --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("rollout")
