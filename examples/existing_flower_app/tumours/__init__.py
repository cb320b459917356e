"""A small Flower app: hospitals train a tumour classifier together."""
