"""What records: collectors (host, NVIDIA, scrape, simulated), and the supervisor that runs them."""
