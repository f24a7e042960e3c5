"""What is asked of Gemini and what is believed of its answers, without the network."""
