"""Pictures, and words for the screen: everything that draws or prints a result, and measures nothing.

One quantity has one look: a species in one colour map, velocities in one that is white at 0, cells
outside a mask grey. Panels that are compared share a scale. Fields of one dimension are curves, and
stacks of rows where they are many. --show v (or --show all) chooses the species.
"""
