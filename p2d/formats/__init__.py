"""Files that others made, read as stacks of snapshots and written for other programs.

Read: .npy, .npz and .mat arrays; PNG, JPEG and folders of them; TIFF, OME-TIFF and ImageJ stacks;
films (mp4, avi, mov, gif); HDF5, netCDF, The Well, HDF5 of py-pde; Zarr; parquet; csv and text;
.vti of Ready. Written by `p2d export`: The Well, npz, png, tiff, zarr. Readers of HDF5, Zarr, TIFF
and films come with pip install -e ".[data]". .github/OWN_DATA.md has a list of what is read from each.

    p2d import plates/*.tif --species activator inhibitor --spacing 0.65um --edges open
    p2d import run.h5 --arrays U V --interval 30s

Names, coordinates (x, y, t) and shape say which axis is which. Where several orders fit, p2d asks
and shows the shape: --axes NCHW answers (N snapshots, R runs, T frames of a run, C species, H rows,
W columns).

Nothing is loaded that could run code: no pickled objects. Files of any size are read a stretch at
a time, in less than 1 GiB with --workers 1. An interrupted import goes on where it was; files that
have changed since are refused. Edges that you do not give are estimated from the pictures; open is
always right, but does without the cells at the edge.

Limits: one or two dimensions; of a stack in three give planes or a projection. 1 to 8 species of
finite values. PNG is written rounded to 16 bits of the range; all else comes back bit for bit.
"""
