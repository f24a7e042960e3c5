"""Adapters of the gateway: one outside thing in each module."""
