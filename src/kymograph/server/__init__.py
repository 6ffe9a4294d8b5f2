"""The HTTP and WebSocket face: the only place where anything is asynchronous."""
