"""What the notifier touches outside itself: its tables, and the customers' endpoints."""
