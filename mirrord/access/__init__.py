"""Who asks, and what they may do: users, rules, tokens, and what a client is challenged for."""
