"""What every command stands on: processes and devices, files, jobs over shards, logging."""
