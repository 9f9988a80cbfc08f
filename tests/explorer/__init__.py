"""An explorer of the protocol as it runs: the real flows of several processes, interleaved and disturbed by a seed."""
