"""What an alert says, and when it is told again: pure values."""
