"""Remote write and remote read over a store: messages in, samples stored; queries in, series out."""
