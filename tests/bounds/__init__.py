"""What bounds a store holds at every moment."""
