"""What keeps snapshots current, and what writes down where they arrived."""
