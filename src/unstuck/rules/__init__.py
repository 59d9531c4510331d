"""Rules: one fault, one file. A rule reads a trace and yields findings; it never sees a tensor."""
