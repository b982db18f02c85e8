"""From pictures to instances: the predictor, the pipeline around it, masks at the picture's size, drawings."""
