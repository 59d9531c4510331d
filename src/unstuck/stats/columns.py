"""The columns of the tables that the compiled pass reads and writes.

numba renews its cache on disk when `passes.py` changes, not when this file does: touch that one along with this one.
"""

ADDRESS, OUTER, UNITS, INNER, STRIDE, MINUS, UNITS_AT = range(7)
"""Of a table of tensors, int64: where the elements lie; how they are read; every how many-th of them; where what is to
be subtracted lies (0: nothing); and the place of its first unit among all units' results."""
COLUMNS = 7
TOTAL, SQUARES, MINIMUM, MAXIMUM = range(4)
"""Of the results in float64."""
COUNT, NONFINITE, ZEROS, OUTSIDE = range(4)
"""Of the results in int64."""
