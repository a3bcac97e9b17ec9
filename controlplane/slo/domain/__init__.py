"""What an objective means, and the arithmetic of its budget: pure, counts in, figures out."""
