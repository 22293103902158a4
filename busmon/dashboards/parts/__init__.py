"""The parts of boards: kinds of panel, queries, levels, colours and links."""
