"""Programs to read and run; each folder has a README."""
