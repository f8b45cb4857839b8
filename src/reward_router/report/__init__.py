"""Self-contained HTML reports: one file, opens offline, drawn by us."""
