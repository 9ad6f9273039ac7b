"""The stage `p2d train-score` as a job.

python jobs/train_score.py --out /shared/runs
ray job submit --working-dir . -- python jobs/train_score.py --out /shared/runs
"""

import sys

from p2d.cli import main

if __name__ == "__main__":
    main(["train-score", *sys.argv[1:]])
