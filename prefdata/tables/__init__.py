"""Tables on disk and in memory: schemas, readers, cells, digests."""
