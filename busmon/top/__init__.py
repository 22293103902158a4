"""`busmon top`: the overview document in a terminal."""
