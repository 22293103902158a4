"""The parts of pika that busmon replaces or reaches into: frames and deliveries, taken off the socket's bytes."""
