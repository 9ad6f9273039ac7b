"""Pictures, pages, and words for the screen: everything that draws or prints a result, and measures
nothing.

    p2d report waves          # runs/report/waves/index.html

`p2d report` writes one page of all that there is of a dataset: the equation with error bars and the
verdict, true rates beside the rates found, what was given, the rollout as an animation, generated
and denoised patterns, spectra, sweeps, losses, and the record of settings, hashes, versions and
commands. It is one file and needs no network; send it to whom you like. `p2d run` and
`p2d evaluate` write it at their end, and it is written again only when something has changed.

One quantity has one look: a species in one colour map, rates of change in one that is white at 0,
cells outside a mask grey. Panels that are compared share a scale. Fields of one dimension are
curves, and stacks of rows where they are many. --show v (or --show all) chooses the species.
"""
