"""One file per face of the HTTP API; each makes a router over the server's state."""
