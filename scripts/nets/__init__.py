"""The three nets: their prototxt files, weights and solvers, and running them."""
