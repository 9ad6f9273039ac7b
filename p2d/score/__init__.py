"""Score models: the gradient of the log density of noised snapshots, which also removes noise.

With x in training coordinates and alpha the share of signal power,

    x_a = sqrt(alpha) x + sqrt(1 - alpha) eps
    score(x_a) = grad log p(x_a) = -E[eps | x_a] / sqrt(1 - alpha)

Denoising score matching (Vincent 2011): a network learns to predict eps. The model starts from what
second moments say: the power spectrum gives the best linear denoiser at every noise level and on
any grid, and a small U-Net learns what is left (preconditioning after Karras et al. 2022).

One model serves every alpha of a range (--alpha 0.5 0.999, the default); --alpha 0.8 trains one
level alone, as the original does. Random shifts, turns and mirror images that the grid looks the
same after are free data. Snapshots that do not fit a worker's memory are streamed, in the very same
batches.

    p2d train-score waves
    p2d sample --score waves -n 64 --height 256 --width 256    # new patterns, of any size
    p2d simulate -p waves --noise 0.02 --name waves_noisy      # snapshots as an instrument sees them
    p2d denoise waves_noisy                                    # trained on the noisy ones alone

`p2d sample` solves the reverse process by Heun's method with some new noise in each step (--churn)
and prints, beside each distance of its patterns to held-out snapshots, the floor: the distance of
as many training snapshots. None should be a copy of a training snapshot, and that is measured, too.
`p2d denoise` estimates the noise where --noise does not give it. Both write datasets that every
other stage takes.

After three minutes of training on two cores the energy distance of seven averages was 1.2 times its
floor for waves, 1.1 for spirals, 3.1 for life and 18 for maze, whose averages hardly vary.

Neither the equation nor the default flow needs a score model; objectives continuity and
training-free do. Limits: with a mask, a model is for that grid alone; noise is taken to be white.
"""
