"""The stage `p2d discover` as a job.

python jobs/discover.py --out /shared/runs
ray job submit --working-dir . -- python jobs/discover.py --out /shared/runs
"""

import sys

from p2d.cli import main

if __name__ == "__main__":
    main(["discover", *sys.argv[1:]])
