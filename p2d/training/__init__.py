"""Training: one loop for score models and flows, which knows neither, nor Ray.

A Task (task.py) has a model and turns a batch into sums; the loop adds them over all workers and
takes ratios afterwards, so that results do not depend on how many workers there are. Random numbers
belong to samples (randomness.py). A checkpoint is model.safetensors and config.json, and state.pt
to go on from; none holds pickled code. A model of your own is a Task and a function in p2d/recipes.
"""
