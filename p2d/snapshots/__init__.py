"""Datasets: folders of parquet shards with a card, card.json, that says what they are.

A shard holds one row a snapshot and opens with plain pyarrow:

    import pyarrow.parquet as pq
    table = pq.read_table("runs/data/waves_128x128/shard-00000.parquet")
    states = table["state"].combine_chunks().to_numpy_ndarray()    # float32 [64, 2, 128, 128]

The card holds species, grid, edges, spacing, the systems that made the snapshots, their ensemble
averages, the scaling of training coordinates, and a hash of every shard. Results are written whole
or not at all. The same command makes what is missing and no more; a second process that makes the
same result is refused. A finished dataset is recognised by size and age of its shards: `p2d verify`
reads every byte, names shards that are missing, cut, altered or foreign, and --repair makes exactly
those again, where the dataset was simulated.

`p2d import` and `p2d info` look at the snapshots and say in words what they show and what that does
to an answer: edges, white noise, rounding, the blocks of JPEG, uneven light, dead or saturated
pixels, copies and frames of one run given as independent, two systems or parameter values in one
set, places that are not alike (transients), patterns too coarse or too large for the window. Each
test raises a false alarm in fewer than 1 % of clean ensembles.

Runs are independent, frames of one run are not: they count together as one, and training and
held-out snapshots never share a run. Of a single film the last frames are held out.

Not noticed: transients of one age that look alike everywhere; a second parameter value a few per
cent off; blur and binned pixels, which show in the equation's verdict instead.
"""
