"""Discovery: the equation of an ensemble of snapshots that carry no time order, in closed form.

The coefficients over a library of terms under which no observable changes on average are the smallest generalised
eigenvector of a matrix that is a mean over snapshots (fit.py). Terms that the data can do without are left out. Nothing
is trained, and two passes over the snapshots are enough (moments.py), in memory or over Ray (snapshots/passes.py).

    discovery = p2d.discover(dataset)
    print(discovery)                      # the equation with error bars, and what it is worth
    discovery.system.rate(states)         # a System: its parameters are the coefficients
    discovery.plot(axes, truth)
    discovery.save("here"); p2d.Discovery.load("here")

Of a dataset of one known system, `p2d discover` keeps the equation with the start, limits, step and burn-in of that
system: `p2d simulate --equation NAME` makes its ensemble as the data were made, and `p2d evaluate` says how far a small
one is from the data, in floors: the distance of as many of the data's own snapshots (evaluate/fresh.py).

A library (library.py) is free, every term in every equation, or tied as in a known system: what multiplies each of its
parameters is one free number. White noise is told from the snapshots and corrected for; explicit time steps that made
the snapshots show, and are allowed for (steps.py). Error bars are bootstrap deviations over runs.

Limits: two species on periodic grids of spacing 1, with values in [0, 1]. Snapshots tell no unit of time (a reaction of
Gray-Scott's form has rate 1) and no direction of time (diffusion damps). Where nothing moves they tell no dynamics but
the parameters of a steady state, if its system is the reference (reference.py). Of few noisy and of 8-bit snapshots an
equation may be called identified though its terms are stand-ins for the true ones; a tied library is a check.
"""
