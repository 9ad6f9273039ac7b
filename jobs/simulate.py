"""The stage `p2d simulate` as a job.

python jobs/simulate.py --out /shared/runs
ray job submit --working-dir . -- python jobs/simulate.py --out /shared/runs
"""

import sys

from p2d.cli import main

if __name__ == "__main__":
    main(["simulate", *sys.argv[1:]])
