"""Where points go: the kinds of map, what two of them make together, images and volumes carried by them."""
