"""Training of predictors: synthetic or read pairs, the loss of instance optimisation over many pairs, checkpoints."""
