"""The stage `p2d sample` as a job.

python jobs/sample.py --score waves --out /shared/runs
ray job submit --working-dir . -- python jobs/sample.py --score waves --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("sample")
