"""The gateway: the public face of the system, and the projection of every event that customers see."""
