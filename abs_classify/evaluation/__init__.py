"""How good methods are on labelled images: jobs and sweeps, metrics with intervals, records, tables, exports."""
