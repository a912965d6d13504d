"""A registry we pull from: challenges, tokens, redirects, bodies."""
