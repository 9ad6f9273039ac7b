"""Benchmarks: a stage beside an alternative, with both numbers.

    p2d bench simulate    # kernels beside the same text in PyTorch, torch.compile and JAX
    p2d bench score       # the score network beside a U-Net at full resolution
    p2d bench denoise     # denoising without clean data, beside a bound and two filters
    p2d bench flow        # flows against the true velocity, over seeds and numbers of snapshots
    p2d bench discover    # how fast equations are found; --study: how well
    p2d bench verdicts    # right and wrong claims over seeded cases; --beside pysindy
    p2d bench growth      # what grows with the number of shards

Each takes --json. What they measured is in .github/RESULTS.md, which `python .github/results.py`
makes, and notes on what was tried are at the top of each module.
"""
