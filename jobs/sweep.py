"""The stage `p2d sweep` as a job.

python jobs/sweep.py --out /shared/runs
ray job submit --working-dir . -- python jobs/sweep.py --out /shared/runs
"""

import sys

from p2d.cli import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
