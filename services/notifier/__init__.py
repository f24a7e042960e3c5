"""Delivers public events to the customers' webhook endpoints: signs, sends, retries, logs. It builds no payload."""
