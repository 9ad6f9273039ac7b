"""Files that others made, as stacks of snapshots: what is in them, read a stretch at a time.

Nothing is loaded that could run code, and no more is read than was asked for, whatever the size of a file.
"""
