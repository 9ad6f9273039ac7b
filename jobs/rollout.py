"""The stage `p2d rollout` as a job.

python jobs/rollout.py --flow waves --out /shared/runs
ray job submit --working-dir . -- python jobs/rollout.py --flow waves --out /shared/runs
"""

import sys

from p2d.cli import main

if __name__ == "__main__":
    main(["rollout", *sys.argv[1:]])
