"""The report page: one file, OUT/report/NAME/index.html, that shows all that there is of a dataset.

It needs no network: pictures are data URIs, styles and scripts stand in the page. Each section is there only if there
is something to show: the equation with its error bars and the verdict, true rates against those found, what was given,
velocities, the equation carried on in time, generated and denoised patterns, spectra, sweeps, losses, and the record of
settings, commands and sources.

material.py holds what is shown, writing.py puts the page together, a module a section in between. Values of a species
are drawn in viridis, rates of change in a diverging map that is white at 0, curves of a species in its own colour.
Curves are drawn by uPlot (MIT, in uplot/); all else by page.js.
"""
