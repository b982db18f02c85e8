"""Read annotations and pictures, augment them and build batches with training targets."""
