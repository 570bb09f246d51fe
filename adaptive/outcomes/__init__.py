"""What the candidates said of labelled images: the outcome table, and its three parts."""
