"""Systems: equations as text, and everything that is made of the text.

A system is a small TOML file: species, the rate of change of each as text, parameters and presets.
`p2d systems` lists those of the catalogue. Wherever a system is named, the path of a file of your
own does as well; p2d/systems/catalogue/README.md lists what it may hold. The least of it:
    name = "my_system"
    [rates]                              # one for each species, up to 8
    u = "D*lap(u) + u - u**3 - v"
    v = "epsilon*(u - a*v)"
    [parameters]                         # every name in the rates that is no species
    D = 1.0
    epsilon = 0.2
    a = 1.5

From the text come the kernels for CPU (numba) and GPU (Triton), the true rate that results are
held against, and the forms for SymPy, LaTeX and py-pde. It is parsed, never executed. A discovered
equation is a system, too: `p2d simulate --equation NAME` runs it at the same speed.

    p2d simulate -p waves spirals                      # presets of Gray-Scott, the default system
    p2d simulate --system mine.toml --set a=1.5,2.0    # every value, or combination, as one dataset
    p2d simulate --system barkley --edges mirror --spacing 0.5um --height 96 --width 192
    p2d simulate --system kuramoto_sivashinsky --height 1 --width 256    # one dimension

Edges are periodic or mirror (no flux), each axis its own. Laplacians: the 5-point stencil, the
9-point one, one of eighth order, or the exact one of Fourier modes (spectral).

Steps: euler runs in the kernels, of 32 bits. A step that is too long for the rest state is refused,
with the longest that is not; far from rest it may still be too long, and a state that is not finite
is reported with sample and step. etdrk4 is of fourth order, of 64 bits, exact in what is linear,
and a thousand times slower: for checks, and for stiff systems. Noise in the dynamics,
dc = v dt + sigma dW in each cell (Ito), is added by euler's steps (Euler-Maruyama).

A sample depends on (seed, sample id) alone: the same bytes for any --chunk and number of --actors.
A dataset's card says how many patterns died out (became uniform; they are left out of training) and
whether the rest still changes; then take more --steps. Of --snapshots-per-run 4 --interval 1000,
no split puts frames of one run on both sides. CPU and GPU agree to rounding, which chaos lets grow.

Limits: no coefficients that depend on place or time, no delays, one grid for all species. Static
patterns remember their start: only another run is another sample. Cahn-Hilliard's coarsen for ever.
"""
