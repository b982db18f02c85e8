"""Other programs' checkpoints to ours: one thin script a source, over one reader, one checker and tables of names."""
