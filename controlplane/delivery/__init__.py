"""Getting policies to instances, and knowing that they arrived."""
