"""The stage `p2d train-flow` as a job.

python jobs/train_flow.py --out /shared/runs
ray job submit --working-dir . -- python jobs/train_flow.py --out /shared/runs
"""

import sys

from p2d.cli import main

if __name__ == "__main__":
    main(["train-flow", *sys.argv[1:]])
