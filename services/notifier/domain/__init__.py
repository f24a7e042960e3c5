"""Pure decisions on deliveries: what is signed, what an answer means, when to try again."""
