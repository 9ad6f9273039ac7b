"""Discovery: the equation of an ensemble of snapshots that carry no time order, in closed form.

The coefficients over a library of terms under which no observable changes on average are the smallest generalised
eigenvector of a matrix that is a mean over snapshots (fit.py). Terms that the data can do without are left out. Nothing
is trained; a few passes over the snapshots are enough (moments.py), in memory or over Ray (snapshots/passes.py).

    discovery = p2d.discover(dataset)
    discovery = p2d.discover(states, species=("a", "b"), spacing=0.5, edges="open", mask=dish, runs=runs, times=times)
    print(discovery)                      # the equation with error bars, and what it is worth
    discovery.system.rate(states)         # a System: its parameters are the coefficients
    discovery.plot(axes, truth)
    discovery.save("here"); p2d.Discovery.load("here")

Any field: 1 to 8 species, any finite values, periodic, mirror and open edges, masks, any spacing, one dimension.
Observables (observables.py) see a window of the cells whose neighbours are known, so edges do not matter. They are made
of z, the values scaled to their spread (coordinates.py), and the equation is asked for, term by term, in the units of
the values and of the spacing. Of up to three species products are enumerated; of more, smooth functions are drawn.

A library (library.py) is free, every term in every equation (--degree, --order 4, --also gradients derivatives,
--terms), or tied as in a known system (--library SYSTEM): what multiplies each of its parameters is one free number.

The Laplacian (5-point, 9-point, spectral; on open edges a star of eighth order) is the one with which the equation fits
best with the fewest terms, and is told. Explicit time steps that made the snapshots show: how long they are is told,
and what they add is taken out, to all orders (steps.py). White noise is told from the snapshots, of each species, and
extrapolated to none. Error bars are bootstrap deviations over runs.

Time (clock.py): its direction is the one under which short waves are damped; where no term that damps is kept, it is
not known, and that is said. Its unit is what is known (--known 'lap(u)=0.16'), or told by frames of one run at known
times, or that of the system that the data or the terms are known to be of; otherwise the mean square velocity is 1.

Across known conditions (across.py; --across F, or conditions={"F": values}) one equation holds, c = a + b F: it tells
which terms F turns, is a System with F among its parameters, and discovery.at(F=0.02) is what nobody measured. The unit
of time is taken to be the same at all of them, and noise in the dynamics is not looked for. Each of one condition is
looked at by itself, or in three parts where it has more values; of two conditions, halves of each.

Noise in the dynamics (diffusion.py, stirring.py) is one more column a species, taken in where snapshots ask for it.

What is known (verdict.py) are two claims: the velocity to within a bound, and the terms. They rest on judges that the
equation was not fitted to (judges.py), on resampled ensembles and other sets of terms (evidence.py), and on what the
snapshots show of themselves: rounding, dependence, mixtures, change (snapshots/doubts.py). Few snapshots are taken
apart into tiles.

Where nothing moves (snapshots/static.py) snapshots tell no dynamics, but the parameters of the steady state of a system
that is named or recognised (known.py), of a named one from a single snapshot on; otherwise the equation is that nothing
changes.

Limits: an ensemble that a velocity without diffusion keeps as well, such as the turning phase of lambda-omega systems,
is told up to that velocity alone, and not claimed. Travelling plane waves look like patterns that stand still. A second
parameter value some 5 % off is not always seen. Frames of one run count as one, and of more than 1,024 runs error bars
are over 1,024 groups of them, so that memory does not grow with the number of snapshots.
"""
