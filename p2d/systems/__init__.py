"""Systems: equations as text, and everything that is made of the text.

A system is species, the rate of change of each as text, and parameters with their values. From the one text come the
rate on NumPy and torch arrays, a kernel for the CPU and one for the GPU, the terms that a discovered equation is held
against, and the forms for SymPy, LaTeX and py-pde. Twelve stand in catalogue/: gray_scott, fitzhugh_nagumo,
brusselator, schnakenberg, gierer_meinhardt, lambda_omega, barkley, klausmeier, swift_hohenberg, cahn_hilliard,
kuramoto_sivashinsky and cyclic_competition. Wherever a system is asked for, the path of a file of your own does, too:

    name = "my_system"
    source = "who, when, where"
    [rates]                              # one a species, up to 8
    u = "D*lap(u) + u - u**3 - v"
    v = "epsilon*(u - a*v)"
    [parameters]                         # every name in the rates that is no species
    D = 1.0
    epsilon = 0.2
    a = 1.5
    [limits]                             # optional: steps are clamped to these; without, any value is allowed
    u = [-2, 2]
    [start]                              # optional: numbers, or text made of parameters
    rest = { u = 0, v = 0 }              # where nothing happens; looked for if not said
    noise = { u = 0.5 }                  # white, around the rest state; or in its place
    # blot = [{ u = 1 }, { v = 1 }]      # what discs hold in turn (patches instead of discs: kind = "noise")
    [run]                                # optional: what a simulation does unless told otherwise
    dt = 0.05                            # if not said, half of the longest step that is stable
    steps = 10_000
    spacing = 1.5
    [presets]                            # optional: what differs, of parameters and of [run]
    waves = { a = 1.5, moves = true }

Rates hold numbers, parameters and species; + - * / and powers (up to 9, or made of parameters); exp, log, sqrt, sin,
cos, tanh; lap(f), also nested as in lap(c**3 - c - lap(c)); grad(f, g), which is grad f . grad g; d(f, x) along a row
and d(f, y) from row to row. Text is parsed, never executed, and what cannot be read is told with its place.

Edges are periodic or mirror (no flux), each axis its own. A grid of one row is one dimension. The Laplacian is the
5-point stencil, the 9-point one (alike in all directions to fourth order), the exact one of the modes (spectral), or a
star of eighth order.

Integrators: euler runs in the kernels, of 32 bits, at 1.4 (three species) to 3 billion cell updates a second and core
(log, sin, cos and powers that are not whole take ten times as long as all the rest of a rate). A step that is too long
for the rest state is refused beforehand; far from rest it may still be too long, and a state that is not finite is
reported. etdrk4 is of fourth order, of 64 bits, exact in what is linear in a species itself (diffusion, decay), and
a thousand times slower a step: for checks, and for stiff systems.

Noise in the dynamics, dc = v dt + sigma dW in each cell (Ito), is added by euler's steps (Euler-Maruyama), before the
limits clamp. Its random numbers depend on the seed, the run, the step and the cell alone, see wiener.py; 1.4 billion of
them a second and core make a step of Gray-Scott 3.5 times slower. Dead patterns are not uniform with it, and count as
living.

Kernels are generated as source, compiled once, and kept in a cache (P2D_CACHE, or p2d's folder in the user's cache):
the first run of a system takes some seconds longer. CPU and GPU agree to rounding, which chaotic patterns let grow.

Limits: no coefficients that depend on place or time, no delays; one grid for all species.
`moves` of a preset is what was measured after its burn-in (tests/systems/test_catalogue.py). Static patterns remember
their start: only another run is another sample. Cahn-Hilliard's coarsen for ever, and are never stationary.
"""
