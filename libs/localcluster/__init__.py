"""Private RabbitMQ, PostgreSQL and service processes for the demo and the tests; nothing here runs in production."""
