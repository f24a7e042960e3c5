"""The outside world for demo, tests and customers: a live HLS origin, a 100ms sender, a webhook receiver."""
