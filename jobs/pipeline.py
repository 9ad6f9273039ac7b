"""The stage `p2d run` as a job.

python jobs/pipeline.py --out /shared/runs
ray job submit --working-dir . -- python jobs/pipeline.py --out /shared/runs
"""

import sys

from p2d.cli import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
