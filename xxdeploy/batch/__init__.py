"""Many exports: jobs, processes, records and result cards."""
