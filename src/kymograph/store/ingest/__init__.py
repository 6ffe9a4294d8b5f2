"""What other protocols bring, as rows of tables and samples of series."""
