"""What a result leaves besides images: ITK transforms, point lists, the folder of outputs."""
