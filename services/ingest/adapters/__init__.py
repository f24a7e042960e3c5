"""The outside things that ingest touches: its tables, and the folder for bodies that wait for the store."""
