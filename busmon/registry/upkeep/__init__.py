"""What a registry directory holds, shown to a person, and the series that leave it."""
