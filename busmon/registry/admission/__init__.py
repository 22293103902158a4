"""What may be counted: families, values, and the budgets that hold for the whole fleet."""
