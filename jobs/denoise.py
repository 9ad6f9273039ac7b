"""The stage `p2d denoise` as a job.

python jobs/denoise.py waves_noisy --out /shared/runs
ray job submit --working-dir . -- python jobs/denoise.py waves_noisy --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("denoise")
