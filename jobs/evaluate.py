"""The stage `p2d evaluate` as a job.

python jobs/evaluate.py --out /shared/runs
ray job submit --working-dir . -- python jobs/evaluate.py --out /shared/runs
"""

import sys

from p2d.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
