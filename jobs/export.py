"""The stage `p2d export` as a job.

python jobs/export.py waves /shared/waves.zarr --to zarr --out /shared/runs
ray job submit --working-dir . -- python jobs/export.py waves /shared/waves.zarr --to zarr --out /shared/runs
"""

from p2d.cli import job

if __name__ == "__main__":
    job("export")
