"""Authentication and authorization of clients: users, login throttling, tokens and access rules."""
