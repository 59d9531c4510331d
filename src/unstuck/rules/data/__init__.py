"""Rules about what the network is given: inputs, targets, labels and their order."""
