"""What a fault scenario is made of: a world of processes, producers with journals, a drain, an oracle, and a row in the table."""
