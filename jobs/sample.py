"""The stage `p2d sample` as a job.

python jobs/sample.py --score waves --out /shared/runs
ray job submit --working-dir . -- python jobs/sample.py --score waves --out /shared/runs
"""

import sys

from p2d.cli import main

if __name__ == "__main__":
    main(["sample", *sys.argv[1:]])
