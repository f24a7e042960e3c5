"""The demo: a private installation and the outside world around it, from the first webhook to the last."""
