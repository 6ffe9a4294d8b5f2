"""What stores: the contract (`interface`) and its oracle (`memory`)."""
