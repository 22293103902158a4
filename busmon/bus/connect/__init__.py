"""Connections to RabbitMQ: opened, watched, lost and opened again."""
