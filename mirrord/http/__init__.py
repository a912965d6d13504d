"""HTTP to clients: ports, transports, connections, requests, responses and resources."""
