"""What the analyzer decides, without I/O: moments, what makes them credible, and the events they become."""
