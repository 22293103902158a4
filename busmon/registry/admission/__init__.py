"""The admission of metrics: families, places of label values, and the budgets that hold for the whole fleet."""
