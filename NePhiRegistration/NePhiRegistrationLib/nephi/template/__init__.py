"""An unbiased template of many images."""
