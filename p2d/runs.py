"""temporary until the branch lands"""

import os
from contextlib import contextmanager


@contextmanager
def whole(path):
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    yield tmp
    tmp.replace(path)
