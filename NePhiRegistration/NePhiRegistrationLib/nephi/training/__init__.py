"""Training of predictors: data, made-up or read, the loss of instance optimisation over many pairs, checkpoints."""
