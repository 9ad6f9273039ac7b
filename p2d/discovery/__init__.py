"""Discovery: the equation of snapshots that carry no time order, in closed form, with error bars.

Method. If an ensemble stays as it is, no average over it changes: E[v . grad g] = 0 for every
observable g, which is linear in v. With v a sum of terms, the coefficients are the smallest
generalised eigenvector of a matrix that is a mean over snapshots. Terms that the data can do
without are left out. Nothing is trained; a few passes over the snapshots are enough.

    p2d discover waves                                   # monomials to degree 3, and Laplacians
    p2d discover waves --library gray_scott --name tied  # a system's parameters as free numbers
    p2d discover waves --terms "1,u,v,u*v**2,lap(u),lap(v),grad(u,v)" --name own
    p2d discover flames --order 4 --also gradients       # lap(lap(u)) and grad(u, u)
    p2d discover plates --across F                       # one equation for several known conditions
    p2d discover fields --library klausmeier --each      # each static snapshot by itself

Data. Any finite values of 1 to 8 species; periodic, mirror and open edges, masks, one dimension.
White noise is estimated from the snapshots (--noise auto) and its effect extrapolated to none. Of
several Laplacians the one that fits with the fewest terms is chosen, and named. Where a simulator's
explicit time steps show in the snapshots, their effect is measured and removed. Error bars are
bootstrap deviations over runs.

Time. Its direction is the one under which short waves are damped; where no term damps it is not
known. Its unit comes from --known "lap(u)=0.16", from frames of one run at known times, or from a
system that the terms or the data are known to be of; otherwise the mean square velocity is 1.
Noise in the dynamics, dc = v dt + sigma dW, is fitted where the snapshots ask for it. It tells the
direction of time. Where a camera adds noise as well, give --noise, or sigma holds some of it.

The verdict makes two claims, each by itself. "velocity known": 1 - cosine with the true velocity is
below a bound with 95 % confidence. "terms known": no other set of terms fits as well; those that do
are named, with what would decide. They rest on resampled ensembles, and on 48 observables that the
equation was not fitted to: wave lengths, pairs of cells, slopes. A doubt about the data (rounding,
JPEG, copies, mixtures, transients, held-out observables that disagree) takes a claim away and says
why. Fewer than 48 snapshots are cut into tiles, to have more to resample; below 12 independent runs
nothing is claimed.

Limits. A pattern that stands still tells no dynamics, but the parameters of a known system. Where
a velocity without diffusion keeps the ensemble as well (the phase of lambda-omega systems), none is
claimed. Runs that look alike up to a shift, such as plane waves, are taken for one run. Not
noticed: transients of one age that look alike everywhere; a second parameter value a few per cent
off; an ensemble that nearly stands still and still relaxes. Rounding to 8 bits leaves errors of 1
to 2 %. Few snapshots of chaos and spirals leave diffusion least certain.
"""
